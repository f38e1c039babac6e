/* Eight floats at a time: AVX2, FMA and F16C. */
#if defined __x86_64__
#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define HA_ISA_AVX2
#define HA_ISA_NAME "avx2"
#define HA_TABLE ha_kernels_avx2
#include "kernels/table.inc.c"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
