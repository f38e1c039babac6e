/* Linear attention whose queries see keys on both sides; linear_attention.c sends them here. */
#ifndef HA_OPS_LINEAR_ATTENTION_BOTH_H
#define HA_OPS_LINEAR_ATTENTION_BOTH_H

#include "ops/ops.h"

/* All keys of the sequence: sums [n_seq, kv_heads, features, dim + 1] is kept for the backward pass. */
ha_status ha_linear_all_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv, float *num,
                                ptrdiff_t ldn, float *den, float *sums, ha_arena *work);
ha_status ha_linear_all_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                 const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv, const float *sums,
                                 const float *dnum, ptrdiff_t lddn, const float *dden, float *df, ptrdiff_t lddf,
                                 float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv, ha_arena *work);
/* With a lag: the causal op on the batch and on its mirror image. */
ha_status ha_linear_mirrored_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                     const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv,
                                     float *num, ptrdiff_t ldn, float *den, float *states, ha_arena *work);
ha_status ha_linear_mirrored_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f,
                                      ptrdiff_t ldf, const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv,
                                      const float *states, const float *dnum, ptrdiff_t lddn, const float *dden,
                                      float *df, ptrdiff_t lddf, float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv,
                                      ha_arena *work);

#endif
