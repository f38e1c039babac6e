/* Inference: tokens to final hidden states, to logits. */
#include "model/model.h"
#include "ops/ops.h"

ha_status ha_pass_begin(const ha_model *m, const ha_batch *batch, float *grads, ha_arena *arena,
                        const ha_interrupt *check, ha_pass *pass)
{
    const int half = m->config.head_dim / 2;
    float *cosine, *sine;
    HA_PUSH(cosine, arena, (size_t)batch->rows * (size_t)half);
    HA_PUSH(sine, arena, (size_t)batch->rows * (size_t)half);
    ha_rope_table(batch->rows, half, batch->position, m->config.rope_inv_freq, m->config.rope_factor, cosine, sine);
    *pass = (ha_pass){.batch = batch,
                      .cos = cosine,
                      .sin = sine,
                      .params = &m->params,
                      .weights = m->weights,
                      .grads = grads,
                      .arena = arena,
                      .check = check};
    return HA_OK;
}

static ha_status all_layers(const ha_model *m, const float *gates, const ha_batch *batch, ha_cache *cache,
                            float *hidden, ha_arena *arena, const ha_interrupt *check)
{
    const int d = m->config.hidden_size;
    ha_pass pass;
    float *x, *own;
    HA_PUSH(own, arena, (size_t)m->config.num_layers);
    HA_TRY(ha_gates_of(m, gates, own));
    HA_TRY(ha_pass_begin(m, batch, NULL, arena, check, &pass));
    HA_PUSH(x, arena, (size_t)batch->rows * (size_t)d);
    ha_embed_forward(batch->rows, d, batch->token, ha_model_embedding(m), x);
    for (int l = 0; l < m->config.num_layers; l++) {
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        HA_TRY(ha_layer_forward(m, l, (ha_layer_run){own[l], 0}, &pass, x, NULL, cache));
    }
    ha_rms_norm_forward(batch->rows, d, x, d, m->weights + m->final_norm, m->config.norm_eps, hidden, d);
    return HA_OK;
}

ha_status ha_model_hidden(const ha_model *m, const float *gates, const ha_batch *batch, ha_cache *cache, float *hidden,
                          ha_arena *arena, const ha_interrupt *check)
{
    size_t mark = ha_arena_mark(arena);
    ha_status status = all_layers(m, cache ? ha_cache_gates(cache) : gates, batch, cache, hidden, arena, check);
    if (cache && status == HA_OK)
        ha_cache_advance(cache, batch);
    else if (cache)
        ha_cache_reset(cache); /* some layers have moved on, others not: empty is the only consistent state left */
    ha_arena_release(arena, mark);
    return status;
}

void ha_model_logits(const ha_model *m, int n, const float *hidden, float *logits)
{
    const int d = m->config.hidden_size, v = m->config.vocab_size;
    ha_linear_forward(n, d, v, 1.0f, hidden, d, ha_model_head(m), NULL, 0.0f, logits, v);
}
