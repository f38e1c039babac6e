/* bfloat16 products by VDPBF16PS: AVX-512 BF16, beside the table of AVX-512. */
#if defined __x86_64__
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512bw,avx512f,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,avx512bw,avx512f,avx2,fma,f16c")
#endif
#define HA_ISA_AVX512
#define HA_BF16_PAIRS
#include "kernels/kernels.h"
#include "kernels/vec.h"

#include "kernels/transpose.inc.c"
#include "kernels/product_tile.inc.c"
#include "kernels/product_bf16.inc.c"
#include "kernels/pairs.inc.c"

const ha_packed_kernels ha_bf16_avx512 = {.isa = "avx512_bf16",
                                          .rows = MR,
                                          .columns = NR,
                                          .numbers = 2,
                                          .together = 2,
                                          .product = k_bf16_product,
                                          .pack_rows = k_pair_rows,
                                          .pack_columns = k_pair_columns};
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
