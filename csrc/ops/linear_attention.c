/* Linear attention with the normaliser apart (Katharopoulos et al. 2020): which of its ways a call
 * goes. */
#include "ops/linear_attention_both.h"
#include "ops/linear_attention_causal.h"

size_t ha_linear_attention_states(const ha_linear_attention *a, const ha_batch *batch)
{
    if (!a->bidirectional)
        return ha_linear_causal_states(a, batch);
    return a->lag ? 2 * ha_linear_causal_states(a, batch) : (size_t)batch->n_seq * (size_t)a->kv_heads * ha_sum_size(a);
}

ha_status ha_linear_attention_forward(const ha_linear_attention *a, const ha_batch *batch,
                                      const ha_linear_attention_in *in, float *const *state,
                                      const ha_linear_attention_out *out, float *saved, ha_arena *work)
{
    if (!a->bidirectional)
        return ha_linear_causal_forward(a, batch, in, state, out, saved, work);
    return (a->lag ? ha_linear_mirrored_forward : ha_linear_all_forward)(a, batch, in, out, saved, work);
}

ha_status ha_linear_attention_backward(const ha_linear_attention *a, const ha_batch *batch,
                                       const ha_linear_attention_in *in, const float *saved,
                                       const ha_linear_attention_upstream *upstream,
                                       const ha_linear_attention_gradient *gradient, ha_arena *work)
{
    return (!a->bidirectional ? ha_linear_causal_backward
            : a->lag          ? ha_linear_mirrored_backward
                              : ha_linear_all_backward)(a, batch, in, saved, upstream, gradient, work);
}
