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

/* state [features, dim] += e^T v over n <= HA_CHUNK rows */
static inline void ha_add_outer(const ha_linear_attention *a, int n, const float *e, ptrdiff_t lde, const float *v,
                                ptrdiff_t ldv, float *state)
{
    ha_kernels_get()->gemm(a->features, a->dim, n, 1.0f, e, 1, lde, v, ldv, 1, state, a->dim);
}

/* As the functions of ops.h, for a->bidirectional = 0. */
size_t ha_linear_causal_states(const ha_linear_attention *a, const ha_batch *batch);
ha_status ha_linear_causal_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                   const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv,
                                   float *const *state, float *num, ptrdiff_t ldn, float *den, float *states,
                                   ha_arena *work);
ha_status ha_linear_causal_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                    const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv, const float *states,
                                    const float *dnum, ptrdiff_t lddn, const float *dden, float *df, ptrdiff_t lddf,
                                    float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv, ha_arena *work);

#endif
