/* Sixteen floats at a time: AVX-512 F. */
#if defined __x86_64__
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma,f16c")
#endif
#define HA_ISA_AVX512
#define HA_ISA_NAME "avx512"
#define HA_TABLE ha_kernels_avx512
#include "kernels/table.inc.c"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
