/* From tokens to the input of the first layer: embeddings of token, position and segment added up,
 * then a norm, as the config says. */
#include <string.h>

#include "model/parts.h"

/* The sum before the norm. */
static void sum_of(const ha_model *m, const ha_pass *pass, const int32_t *segment, float *x)
{
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, d = m->config.hidden_size;
    const size_t skipped = (size_t)m->config.position_offset * (size_t)d;
    ha_embed_forward(rows, d, batch->token, ha_matrix_of(pass, m->embed), x);
    if (m->config.embed_scale > 0.0f)
        ha_scale(ha_wide(batch, d), m->config.embed_scale, x);
    if (m->config.positions)
        ha_embed_add(rows, d, batch->position, pass->weights + m->positions + skipped, x);
    if (m->config.segments)
        ha_embed_add(rows, d, segment, pass->weights + m->segments, x);
}

/* Segments of a model that has them: zeros where the batch brings none. */
static ha_status segments_of(const ha_model *m, const ha_pass *pass, const int32_t **segment)
{
    int32_t *zero;
    *segment = pass->batch->segment;
    if (*segment || !m->config.segments)
        return HA_OK;
    HA_PUSH(zero, pass->arena, (size_t)pass->batch->rows);
    memset(zero, 0, (size_t)pass->batch->rows * sizeof *zero);
    *segment = zero;
    return HA_OK;
}

ha_status ha_model_embed(const ha_model *m, const ha_pass *pass, float *x)
{
    const size_t mark = ha_arena_mark(pass->arena);
    const int32_t *segment;
    HA_TRY(segments_of(m, pass, &segment));
    sum_of(m, pass, segment, x);
    if (m->config.embed_norm)
        ha_norm_forward(m, m->embed_norm, pass, x, x);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_model_embed_backward(const ha_model *m, const ha_pass *pass, float *dx)
{
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, d = m->config.hidden_size;
    const size_t mark = ha_arena_mark(pass->arena), skipped = (size_t)m->config.position_offset * (size_t)d;
    const int32_t *segment;
    if (!pass->grads)
        return HA_OK;
    HA_TRY(segments_of(m, pass, &segment));
    if (m->config.embed_norm) {
        float *x;
        HA_PUSH(x, pass->arena, ha_wide(batch, d));
        sum_of(m, pass, segment, x);
        HA_TRY(ha_norm_through(m, m->embed_norm, pass, x, dx));
    }
    if (m->config.positions)
        ha_embed_backward(rows, d, batch->position, dx, pass->grads + m->positions + skipped);
    if (m->config.segments)
        ha_embed_backward(rows, d, segment, dx, pass->grads + m->segments);
    if (m->config.embed_scale > 0.0f)
        ha_scale(ha_wide(batch, d), m->config.embed_scale, dx);
    ha_embed_backward(rows, d, batch->token, dx, pass->grads + m->embed);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
