/* The norm that a model has everywhere: RMSNorm, or LayerNorm with biases. */
#include <string.h>

#include "core/thread.h"
#include "model/parts.h"

void ha_copy(size_t n, const float *from, float *to)
{
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE) {
        size_t bytes = (n - at < PIECE ? n - at : PIECE) * sizeof *to;
        if (from)
            memcpy(to + at, from + at, bytes);
        else
            memset(to + at, 0, bytes);
    }
}

static ha_row_norm row_norm(const ha_model *m, ha_norm norm, const ha_pass *pass)
{
    return (ha_row_norm){m->config.hidden_size, pass->weights + norm.weight, ha_at(pass->weights, norm.bias),
                         m->config.norm_eps};
}

void ha_norm_forward(const ha_model *m, ha_norm norm, const ha_pass *pass, const float *x, float *y)
{
    const ha_row_norm own = row_norm(m, norm, pass);
    (m->config.norm == HA_NORM_LAYER ? ha_layer_norm_forward : ha_rms_norm_forward)(
        &own, pass->batch->rows, ha_rows_of(x, own.width), ha_rows_to(y, own.width));
}

ha_status ha_norm_backward(const ha_model *m, ha_norm norm, const ha_pass *pass, const float *x, const float *dy,
                           float *dx)
{
    const ha_row_norm own = row_norm(m, norm, pass);
    const int rows = pass->batch->rows;
    const ha_rows in = ha_rows_of(x, own.width), up = ha_rows_of(dy, own.width);
    const ha_rows_out to = ha_rows_to(dx, own.width);
    float *dweight = ha_grad_at(pass->grads, norm.weight);
    if (m->config.norm == HA_NORM_LAYER)
        return ha_layer_norm_backward(&own, rows, in, up, to, dweight, ha_grad_at(pass->grads, norm.bias), pass->arena);
    return ha_rms_norm_backward(&own, rows, in, up, to, dweight, pass->arena);
}

ha_status ha_norm_through(const ha_model *m, ha_norm norm, const ha_pass *pass, const float *x, float *dx)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    float *dy;
    HA_PUSH(dy, pass->arena, n);
    ha_copy(n, dx, dy);
    ha_copy(n, NULL, dx);
    HA_TRY(ha_norm_backward(m, norm, pass, x, dy, dx));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
