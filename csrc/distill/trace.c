/* What one layer reads and gives on the teacher's stream, for a start of its linear mixer that is
 * fitted to it. */
#include <string.h>

#include "distill/distill.h"
#include "mixers/softmax.h"

/* The mixer's output, and in read [rows, inner], unless NULL, what its output projection reads. */
static ha_status run_mixer(const ha_mixer *mixer, ha_pass *pass, const float *h, float *read, float *out)
{
    memset(out, 0, (size_t)pass->batch->rows * (size_t)mixer->config->hidden_size * sizeof *out);
    pass->watched = mixer->at[HA_SLOT_O];
    pass->seen = read;
    const ha_status status = mixer->kind->forward(mixer, pass, h, 1.0f, out, NULL, NULL);
    pass->seen = NULL;
    return status;
}

static float *rows_from(float *at, ptrdiff_t row, int width)
{
    return at ? at + row * width : NULL;
}

static ha_status trace_batch(const ha_model *m, int l, const ha_batch *batch, const float *in, const ha_trace *to,
                             ptrdiff_t row, ha_arena *arena, const ha_interrupt *check)
{
    const ha_layer *layer = &m->layer[l];
    const int d = m->config.hidden_size;
    const size_t wide = (size_t)batch->rows * (size_t)d;
    ha_pass pass;
    float *x, *h, *out;
    HA_TRY(ha_pass_begin(m, batch, NULL, arena, check, &pass));
    HA_PUSH(x, arena, wide);
    HA_PUSH(h, arena, wide);
    HA_PUSH(out, arena, wide);
    if (in)
        memcpy(x, in + row * d, wide * sizeof *x);
    else
        HA_TRY(ha_model_embed(m, &pass, x));
    ha_layer_input(m, l, &pass, x, h);
    if (to->input)
        memcpy(to->input + row * d, h, wide * sizeof *h);
    if (to->linear_read)
        HA_TRY(run_mixer(&layer->linear, &pass, h, rows_from(to->linear_read, row, ha_inner(&layer->linear)), out));
    if (to->softmax_read) {
        HA_TRY(ha_softmax_reach(&layer->softmax, &pass, h, to->reach));
        HA_TRY(run_mixer(&layer->softmax, &pass, h, rows_from(to->softmax_read, row, ha_inner(&layer->softmax)), out));
        memcpy(to->softmax_output + row * d, out, wide * sizeof *out);
    }
    if (to->stream && to->softmax_read)
        HA_TRY(ha_layer_finish(m, l, &pass, out, x));
    else if (to->stream)
        HA_TRY(ha_layer_forward(m, l, (ha_layer_run){layer->softmax.kind ? 1.0f : 0.0f, 0}, &pass, x, NULL, NULL));
    if (to->stream)
        memcpy(to->stream + row * d, x, wide * sizeof *x);
    return HA_OK;
}

ha_status ha_windows_trace(const ha_model *m, int l, const ha_windows *w, const float *in, const ha_trace *to,
                           ha_arena *arena, const ha_interrupt *check)
{
    ptrdiff_t row = 0;
    for (int from = 0, stop; from < w->count; from = stop) {
        const size_t mark = ha_arena_mark(arena);
        ha_batch batch;
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        stop = ha_windows_group(w, from, 2048);
        HA_TRY(ha_windows_batch(w, from, stop, 1, arena, &batch));
        HA_TRY(trace_batch(m, l, &batch, in, to, row, arena, check));
        row += batch.rows;
        ha_arena_release(arena, mark);
    }
    return HA_OK;
}
