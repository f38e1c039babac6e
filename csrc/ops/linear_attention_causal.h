/* Linear attention whose queries see only what lies before them: the op below the two others. */
#ifndef HA_OPS_LINEAR_ATTENTION_CAUSAL_H
#define HA_OPS_LINEAR_ATTENTION_CAUSAL_H

#include "kernels/kernels.h"
#include "ops/ops.h"

/* Floats of S [features, dim] and z [features] of one key head. */
static inline size_t ha_sum_size(const ha_linear_attention *a)
{
    return (size_t)a->features * (size_t)(a->dim + 1);
}

/* state [features, dim] += keys^T values over n <= HA_CHUNK rows of one head; keys [n, features],
 * values [n, dim] */
static inline void ha_add_outer(const ha_linear_attention *a, int n, ha_rows keys, ha_rows values, float *state)
{
    ha_kernels_get()->gemm(ha_matmul_of(a->features, a->dim, n, 1), ha_view_transposed(keys), values,
                           ha_rows_to(state, a->dim));
}

/* As the functions of ops.h, for a->bidirectional = 0. */
size_t ha_linear_causal_states(const ha_linear_attention *a, const ha_batch *batch);
/* state, saved: or NULL, as there. */
ha_status ha_linear_causal_forward(const ha_linear_attention *a, const ha_batch *batch,
                                   const ha_linear_attention_in *in, float *const *state,
                                   const ha_linear_attention_out *out, float *saved, ha_arena *work);
/* saved as forward left it. */
ha_status ha_linear_causal_backward(const ha_linear_attention *a, const ha_batch *batch,
                                    const ha_linear_attention_in *in, const float *saved,
                                    const ha_linear_attention_upstream *upstream,
                                    const ha_linear_attention_gradient *gradient, ha_arena *work);

#endif
