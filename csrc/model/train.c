/* Forward with a tape, and backward along it. Of layers that are recomputed a tape holds the input
 * only, and runs each again before its backward pass (Chen et al. 2016): one more forward pass, and
 * the saved parts of one layer at a time. */
#include <string.h>

#include "model/model.h"

ha_status ha_tape_forward(const ha_model *m, const ha_tape_options *options, const ha_batch *batch, float *grads,
                          ha_arena *arena, const ha_interrupt *check, ha_tape *tape)
{
    const int layers = m->config.num_layers, both = options->both, recompute = options->recompute;
    const size_t wide = (size_t)batch->rows * (size_t)m->config.hidden_size;
    *tape = (ha_tape){.both = both, .recompute = recompute, .finished = options->finished};
    HA_PUSH(tape->gates, arena, (size_t)layers);
    HA_TRY(ha_gates_of(m, options->gates, tape->gates));
    HA_TRY(ha_pass_begin(m, batch, grads, arena, check, &tape->pass));
    HA_PUSH(tape->saved, arena, (size_t)layers);
    HA_PUSH(tape->last, arena, wide);
    HA_PUSH(tape->hidden, arena, wide);
    HA_TRY(ha_model_embed(m, &tape->pass, tape->last));
    for (int l = 0; l < layers; l++) {
        ha_layer_run run = {tape->gates[l], both};
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        const int again = l < recompute;
        HA_PUSH(tape->saved[l], arena, again ? wide : ha_layer_saved(m, l, run, batch));
        if (again)
            memcpy(tape->saved[l], tape->last, wide * sizeof *tape->last);
        HA_TRY(ha_layer_forward(m, l, run, &tape->pass, tape->last, again ? NULL : tape->saved[l], NULL));
    }
    return ha_model_output(m, &tape->pass, tape->last, tape->hidden);
}

/* What layer l has to have saved: kept, or made again from its input, which is overwritten. */
static ha_status saved_of(const ha_model *m, const ha_tape *tape, int l, ha_layer_run run, float **saved)
{
    *saved = tape->saved[l];
    if (l >= tape->recompute)
        return HA_OK;
    HA_PUSH(*saved, tape->pass.arena, ha_layer_saved(m, l, run, tape->pass.batch));
    return ha_layer_forward(m, l, run, &tape->pass, tape->saved[l], *saved, NULL);
}

/* Whoever reads the count sees the gradients that it counts. */
static void end_stage(const ha_tape *tape)
{
    if (tape->finished)
        atomic_fetch_add_explicit(tape->finished, 1, memory_order_release);
}

ha_status ha_tape_backward(const ha_model *m, ha_tape *tape, float *dhidden, double *dgates)
{
    const ha_pass *pass = &tape->pass;
    const ha_batch *batch = pass->batch;
    size_t mark = ha_arena_mark(pass->arena);
    float *dx;
    HA_PUSH(dx, pass->arena, (size_t)batch->rows * (size_t)m->config.hidden_size);
    HA_TRY(ha_model_output_backward(m, pass, tape->last, dhidden, dx));
    end_stage(tape);
    for (int l = m->config.num_layers - 1; l >= 0; l--) {
        ha_layer_run run = {tape->gates[l], tape->both};
        if (ha_interrupted(pass->check))
            return HA_INTERRUPTED;
        size_t layer_mark = ha_arena_mark(pass->arena);
        float *saved;
        HA_TRY(saved_of(m, tape, l, run, &saved));
        HA_TRY(ha_layer_backward(m, l, run, pass, saved, dx, dgates ? dgates + (ptrdiff_t)l * batch->n_seq : NULL));
        ha_arena_release(pass->arena, layer_mark);
        end_stage(tape);
    }
    HA_TRY(ha_model_embed_backward(m, pass, dx));
    end_stage(tape);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

int ha_param_stage(const ha_model *m, int param)
{
    const ha_param *p = &m->params.list[param];
    const size_t embeddings[] = {m->embed, m->positions, m->segments, m->embed_norm.weight, m->embed_norm.bias};
    if (p->layer >= 0)
        return m->config.num_layers - p->layer;
    for (size_t i = 0; i < sizeof embeddings / sizeof *embeddings; i++)
        if (embeddings[i] == p->offset)
            return m->config.num_layers + 1;
    return 0;
}
