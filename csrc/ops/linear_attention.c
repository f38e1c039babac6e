/* Linear attention with the normaliser apart (Katharopoulos et al. 2020): which of the two ways a call goes. */
#include "ops/linear_attention_both.h"
#include "ops/linear_attention_causal.h"

size_t ha_linear_attention_states(const ha_linear_attention *a, const ha_batch *batch)
{
    if (!a->bidirectional)
        return ha_linear_causal_states(a, batch);
    return a->lag ? 2 * ha_linear_causal_states(a, batch) : (size_t)batch->n_seq * (size_t)a->kv_heads * ha_sum_size(a);
}

ha_status ha_linear_attention_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f,
                                      ptrdiff_t ldf, const float *const *e, ptrdiff_t lde, const float *const *v,
                                      ptrdiff_t ldv, float *const *state, float *num, ptrdiff_t ldn, float *den,
                                      float *states, ha_arena *work)
{
    if (!a->bidirectional)
        return ha_linear_causal_forward(a, batch, f, ldf, e, lde, v, ldv, state, num, ldn, den, states, work);
    return (a->lag ? ha_linear_mirrored_forward : ha_linear_all_forward)(a, batch, f, ldf, e, lde, v, ldv, num, ldn,
                                                                         den, states, work);
}

ha_status ha_linear_attention_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f,
                                       ptrdiff_t ldf, const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv,
                                       const float *states, const float *dnum, ptrdiff_t lddn, const float *dden,
                                       float *df, ptrdiff_t lddf, float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv,
                                       ha_arena *work)
{
    return (!a->bidirectional ? ha_linear_causal_backward
            : a->lag          ? ha_linear_mirrored_backward
                     : ha_linear_all_backward)(a, batch, f, ldf, e, lde, v, ldv, states, dnum, lddn, dden, df, lddf, de,
                                               ldde, dv, lddv, work);
}
