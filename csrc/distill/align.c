/* RADLADS step 1 on one batch: the teacher's stream goes through every layer, and at each trained
 * layer the linear mixer sees the same input as the softmax mixer and learns to give its output.
 * Only one layer is in memory at a time. */
#include <string.h>

#include "distill/distill.h"

static ha_status align_layer(const ha_model *m, int l, ha_pass *pass, const float *h, const float *target, float scale,
                             double *loss)
{
    const ha_mixer *linear = &m->layer[l].linear;
    const ha_batch *batch = pass->batch;
    const int d = m->config.hidden_size;
    size_t mark = ha_arena_mark(pass->arena), wide = (size_t)batch->rows * (size_t)d;
    float *saved, *y, *dy;
    double *distance;
    HA_PUSH(saved, pass->arena, linear->kind->saved(linear, batch));
    HA_PUSH(y, pass->arena, wide);
    HA_PUSH(dy, pass->arena, wide);
    HA_PUSH(distance, pass->arena, (size_t)batch->rows);
    memset(y, 0, wide * sizeof *y);
    HA_TRY(linear->kind->forward(linear, pass, h, 1.0f, y, saved, NULL));
    ha_align_loss(batch->rows, d, target, y, scale, distance, dy);
    for (int r = 0; r < batch->rows; r++)
        *loss += distance[r];
    HA_TRY(linear->kind->backward(linear, pass, h, 1.0f, saved, dy, NULL, NULL));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_align_batch(ha_model *m, const uint8_t *train_layer, const ha_align_part *part, const ha_batch *batch,
                         float scale, ha_arena *arena, const ha_interrupt *check, double *loss)
{
    const size_t wide = (size_t)batch->rows * (size_t)m->config.hidden_size;
    size_t mark = ha_arena_mark(arena);
    ha_pass pass;
    float *x, *h, *target;
    HA_TRY(ha_pass_begin(m, batch, m->grads, arena, check, &pass));
    pass.aligning = 1;
    HA_PUSH(x, arena, wide);
    HA_PUSH(h, arena, wide);
    HA_PUSH(target, arena, wide);
    if (part->in)
        memcpy(x, part->in, wide * sizeof *x);
    else
        HA_TRY(ha_model_embed(m, &pass, x));
    int last = part->first - 1; /* nobody reads what comes out behind it */
    for (int l = part->first; l < part->stop; l++)
        last = train_layer[l] || part->out ? l : last;
    for (int l = part->first; l <= last; l++) {
        const ha_layer *layer = &m->layer[l];
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        if (!train_layer[l]) {
            HA_TRY(ha_layer_forward(m, l, (ha_layer_run){layer->softmax.kind ? 1.0f : 0.0f, 0}, &pass, x, NULL, NULL));
            continue;
        }
        ha_layer_input(m, l, &pass, x, h);
        memset(target, 0, wide * sizeof *target);
        HA_TRY(layer->softmax.kind->forward(&layer->softmax, &pass, h, 1.0f, target, NULL, NULL));
        HA_TRY(align_layer(m, l, &pass, h, target, scale, &loss[l]));
        if (l < last || part->out)
            HA_TRY(ha_layer_finish(m, l, &pass, target, x));
    }
    if (part->out)
        memcpy(part->out, x, wide * sizeof *x);
    ha_arena_release(arena, mark);
    return HA_OK;
}
