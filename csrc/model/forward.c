/* Inference: tokens to final hidden states. */
#include "model/model.h"

static ha_status check_embedded(const ha_model *m, const ha_batch *batch)
{
    const ha_config *c = &m->config;
    for (int s = 0; c->positions && s < batch->n_seq; s++) {
        const int last = batch->offset[s + 1] - 1;
        if (last >= batch->offset[s] && batch->position[last] >= c->positions)
            return ha_fail(HA_BAD_VALUE, "a sequence has %d tokens, but the model has positions for %d",
                           batch->position[last] + 1, c->positions);
    }
    for (int r = 0; batch->segment && r < batch->rows; r++)
        if (batch->segment[r] < 0 || batch->segment[r] >= (c->segments ? c->segments : 1))
            return ha_fail(HA_BAD_VALUE, "a token's segment is %d, allowed are 0 to %d", batch->segment[r],
                           c->segments ? c->segments - 1 : 0);
    return HA_OK;
}

ha_status ha_pass_begin(const ha_model *m, const ha_batch *batch, float *grads, ha_arena *arena,
                        const ha_interrupt *check, ha_pass *pass)
{
    const ha_config *own[2] = {&m->config, &m->local};
    float *cosine[2] = {NULL, NULL}, *sine[2] = {NULL, NULL};
    HA_TRY(check_embedded(m, batch));
    for (int i = 0; i < 1 + m->local.rope_table; i++) {
        const int half = own[i]->rope_dim / 2;
        HA_PUSH(cosine[i], arena, (size_t)batch->rows * (size_t)half);
        HA_PUSH(sine[i], arena, (size_t)batch->rows * (size_t)half);
        ha_rope_table(batch->rows, half, batch->position, own[i]->rope_inv_freq, own[i]->rope_factor, cosine[i],
                      sine[i]);
    }
    *pass = (ha_pass){.batch = batch,
                      .cos = {cosine[0], cosine[1]},
                      .sin = {sine[0], sine[1]},
                      .params = &m->params,
                      .weights = m->weights,
                      .grads = grads,
                      .arena = arena,
                      .check = check};
    return HA_OK;
}

static ha_status all_layers(const ha_model *m, const float *gates, const ha_pass *pass, ha_cache *cache, float *hidden)
{
    float *x;
    HA_PUSH(x, pass->arena, (size_t)pass->batch->rows * (size_t)m->config.hidden_size);
    HA_TRY(ha_model_embed(m, pass, x));
    for (int l = 0; l < m->config.num_layers; l++) {
        if (ha_interrupted(pass->check))
            return HA_INTERRUPTED;
        HA_TRY(ha_layer_forward(m, l, (ha_layer_run){gates[l], 0}, pass, x, NULL, cache));
    }
    return ha_model_output(m, pass, x, hidden);
}

static ha_status begin(const ha_model *m, const float *gates, const ha_batch *batch, ha_arena *arena,
                       const ha_interrupt *check, float **own, ha_pass *pass)
{
    HA_PUSH(*own, arena, (size_t)m->config.num_layers);
    HA_TRY(ha_gates_of(m, gates, *own));
    return ha_pass_begin(m, batch, NULL, arena, check, pass);
}

ha_status ha_model_observe(const ha_model *m, const ha_batch *batch, float **moments, ha_arena *arena,
                           const ha_interrupt *check)
{
    size_t mark = ha_arena_mark(arena);
    ha_pass pass;
    float *own, *hidden;
    HA_TRY(begin(m, NULL, batch, arena, check, &own, &pass));
    HA_PUSH(hidden, arena, (size_t)batch->rows * (size_t)m->config.hidden_size);
    pass.moments = moments;
    ha_status status = all_layers(m, own, &pass, NULL, hidden);
    ha_arena_release(arena, mark);
    return status;
}

ha_status ha_model_hidden(const ha_model *m, const float *gates, const ha_batch *batch, ha_cache *cache, float *hidden,
                          ha_arena *arena, const ha_interrupt *check)
{
    size_t mark = ha_arena_mark(arena);
    ha_pass pass;
    float *own;
    ha_status status = begin(m, cache ? ha_cache_gates(cache) : gates, batch, arena, check, &own, &pass);
    if (status == HA_OK) {
        pass.trailing = cache && ha_cache_trails(cache, batch);
        status = all_layers(m, own, &pass, cache, hidden);
        if (cache && status == HA_OK)
            ha_cache_advance(cache, batch);
        else if (cache)
            ha_cache_reset(cache); /* some layers have moved on, others not: empty is the only consistent state left */
    }
    ha_arena_release(arena, mark);
    return status;
}
