/* One instruction set's table: included last by each per-ISA file. */
#include "kernels/kernels.h"
#include "kernels/vec.h"

INLINE vf v_sqrt(vf x)
{
#if defined HA_ISA_AVX512
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined HA_ISA_AVX2
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < W; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}

#include "kernels/transpose.inc.c"
#include "kernels/gemm.inc.c"
#include "kernels/product_tile.inc.c"
#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
#include "kernels/product.inc.c"
#endif
#include "kernels/product_bf16.inc.c"
#include "kernels/rounded.inc.c"
#include "kernels/stored.inc.c"
#include "kernels/elementwise.inc.c"
#include "kernels/optimizer.inc.c"
#include "kernels/rows.inc.c"
#include "kernels/decode.inc.c"
#include "kernels/recurrence.inc.c"
#include "kernels/recurrence_backward.inc.c"

const ha_kernels HA_TABLE = {
    .isa = HA_ISA_NAME,
    .gemm = k_gemm,
#if defined HA_ISA_AVX2 || defined HA_ISA_AVX512
    .packed = {.rows = MR,
               .columns = NR,
               .numbers = 1,
               .together = 1,
               .product = k_packed_product,
               .pack_rows = k_pack_rows,
               .pack_columns = k_pack_columns},
#endif
    .bf16 = {.rows = MR,
             .columns = NR,
             .numbers = 1,
             .together = 2,
             .product = k_bf16_product,
             .pack_rows = k_round_rows,
             .pack_columns = k_round_columns},
    .gemv = k_gemv,
    .stored_gemv = {[HA_BF16] = gemv_bf16,
                    [HA_F16] = gemv_f16,
                    [HA_Q8_0] = gemv_q8_0,
                    [HA_Q4_0] = gemv_q4_0,
                    [HA_Q4_1] = gemv_q4_1},
    .decode = {[HA_F32] = decode_f32,
               [HA_BF16] = decode_bf16,
               [HA_F16] = decode_f16,
               [HA_Q8_0] = decode_q8_0,
               [HA_Q4_0] = decode_q4_0,
               [HA_Q4_1] = decode_q4_1},
    .transpose = k_transpose,
    .dot = k_dot,
    .axpy = k_axpy,
    .mul_add = k_mul_add,
    .sum_squares = k_sum_squares,
    .exp = k_exp,
    .act = {[HA_ACT_NONE] = k_same,
            [HA_ACT_GELU] = k_gelu,
            [HA_ACT_GELU_TANH] = k_gelu_tanh,
            [HA_ACT_RELU] = k_relu,
            [HA_ACT_SILU] = k_silu,
            [HA_ACT_SIGMOID] = k_sigmoid,
            [HA_ACT_TANH] = k_tanh},
    .act_backward = {[HA_ACT_NONE] = k_same_backward,
                     [HA_ACT_GELU] = k_gelu_backward,
                     [HA_ACT_GELU_TANH] = k_gelu_tanh_backward,
                     [HA_ACT_RELU] = k_relu_backward,
                     [HA_ACT_SILU] = k_silu_backward,
                     [HA_ACT_SIGMOID] = k_sigmoid_backward,
                     [HA_ACT_TANH] = k_tanh_backward},
    .silu_mul = k_silu_mul,
    .silu_mul_backward = k_silu_mul_backward,
    .rms_norm = k_rms_norm,
    .rms_norm_backward = k_rms_norm_backward,
    .layer_norm = k_layer_norm,
    .layer_norm_backward = k_layer_norm_backward,
    .softmax_pair = k_softmax_pair,
    .softmax_pair_backward = k_softmax_pair_backward,
    .rope = k_rope,
    .softmax_step = k_softmax_step,
    .softmax_tile_backward = k_softmax_tile_backward,
    .scale_rows = k_scale_rows,
    .decode_scores = k_decode_scores,
    .decode_mix = k_decode_mix,
    .float_to_half = k_float_to_half,
    .recurrence = k_recurrence,
    .recurrence_replay = k_recurrence_replay,
    .recurrence_backward = k_recurrence_backward,
    .kl_row = k_kl_row,
    .cross_entropy_row = k_cross_entropy_row,
    .adamw = {k_adamw, k_adamw_bf16},
};
