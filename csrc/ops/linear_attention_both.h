/* Linear attention whose queries see keys on both sides; linear_attention.c sends them here. */
#ifndef HA_OPS_LINEAR_ATTENTION_BOTH_H
#define HA_OPS_LINEAR_ATTENTION_BOTH_H

#include "ops/ops.h"

/* All keys of the sequence: sums [n_seq, kv_heads, features, dim + 1] is kept for the backward
 * pass, or NULL. */
ha_status ha_linear_all_forward(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                                const ha_linear_attention_out *out, float *sums, ha_arena *work);
/* Its backward pass. */
ha_status ha_linear_all_backward(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                                 const float *sums, const ha_linear_attention_upstream *upstream,
                                 const ha_linear_attention_gradient *gradient, ha_arena *work);
/* With a lag: the causal op on the batch and on its mirror image, whose prefix sums are `saved`. */
ha_status ha_linear_mirrored_forward(const ha_linear_attention *a, const ha_batch *batch,
                                     const ha_linear_attention_in *in, const ha_linear_attention_out *out, float *saved,
                                     ha_arena *work);
/* Its backward pass. */
ha_status ha_linear_mirrored_backward(const ha_linear_attention *a, const ha_batch *batch,
                                      const ha_linear_attention_in *in, const float *saved,
                                      const ha_linear_attention_upstream *upstream,
                                      const ha_linear_attention_gradient *gradient, ha_arena *work);

#endif
