#include "distill/distill.h"

static int64_t length_of(const ha_windows *w, int i)
{
    return w->window[2 * i + 1] - w->window[2 * i];
}

ha_status ha_windows_batch(const ha_windows *w, int from, int to, int copies, ha_arena *arena, ha_batch *batch)
{
    const int n = to - from;
    int64_t rows = 0;
    for (int i = from; i < to; i++)
        rows += length_of(w, i);
    if (rows * copies > INT32_MAX / 2)
        return ha_fail(HA_NO_MEMORY, "a batch of %lld tokens is too large", (long long)(rows * copies));
    int32_t *offset, *token, *position, *segment = NULL;
    HA_PUSH(offset, arena, (size_t)(n * copies) + 1);
    HA_PUSH(token, arena, (size_t)(rows * copies));
    HA_PUSH(position, arena, (size_t)(rows * copies));
    if (w->segment)
        HA_PUSH(segment, arena, (size_t)(rows * copies));
    int32_t row = 0;
    for (int c = 0; c < copies; c++)
        for (int i = from; i < to; i++) {
            offset[c * n + i - from] = row;
            for (int64_t t = 0; t < length_of(w, i); t++, row++) {
                int32_t id = token[row] = w->token[w->window[2 * i] + t];
                if (id < 0 || id >= w->vocabulary)
                    return ha_fail(HA_BAD_VALUE, "tokens[%lld] is %d, allowed are 0 to %d",
                                   (long long)(w->window[2 * i] + t), id, w->vocabulary - 1);
                position[row] = (int32_t)t;
                if (segment)
                    segment[row] = w->segment[w->window[2 * i] + t];
            }
        }
    offset[n * copies] = row;
    *batch = (ha_batch){row, n * copies, offset, token, position, segment};
    return HA_OK;
}

int ha_windows_group(const ha_windows *w, int from, int64_t rows)
{
    int to = from + 1;
    int64_t used = length_of(w, from);
    while (to < w->count && used + length_of(w, to) <= rows)
        used += length_of(w, to++);
    return to;
}

void ha_next_tokens(const ha_batch *batch, int32_t *target)
{
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            target[r] = r + 1 < batch->offset[s + 1] ? batch->token[r + 1] : -1;
}

void ha_windows_gather(const ha_windows *w, int from, int to, size_t d, const float *stream, float *rows)
{
    for (int i = from; i < to; i++) {
        size_t n = (size_t)length_of(w, i) * d;
        __builtin_memcpy(rows, stream + (size_t)w->window[2 * i] * d, n * sizeof *rows);
        rows += n;
    }
}

void ha_windows_scatter(const ha_windows *w, int from, int to, size_t d, const float *rows, float *stream)
{
    for (int i = from; i < to; i++) {
        size_t n = (size_t)length_of(w, i) * d;
        __builtin_memcpy(stream + (size_t)w->window[2 * i] * d, rows, n * sizeof *rows);
        rows += n;
    }
}

ha_status ha_windows_observe(const ha_model *model, const ha_windows *w, float **moments, ha_arena *arena,
                             const ha_interrupt *check)
{
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(arena);
        ha_batch batch;
        to = ha_windows_group(w, from, 2048);
        HA_TRY(ha_windows_batch(w, from, to, 1, arena, &batch));
        HA_TRY(ha_model_observe(model, &batch, moments, arena, check));
        ha_arena_release(arena, mark);
    }
    return HA_OK;
}

ha_status ha_windows_hidden(const ha_model *model, const ha_windows *w, float *hidden, ha_arena *arena,
                            const ha_interrupt *check)
{
    const size_t d = (size_t)model->config.hidden_size;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(arena);
        ha_batch batch;
        float *rows;
        to = ha_windows_group(w, from, 2048);
        HA_TRY(ha_windows_batch(w, from, to, 1, arena, &batch));
        HA_PUSH(rows, arena, (size_t)batch.rows * d);
        HA_TRY(ha_model_hidden(model, NULL, &batch, NULL, rows, arena, check));
        ha_windows_scatter(w, from, to, d, rows, hidden);
        ha_arena_release(arena, mark);
    }
    return HA_OK;
}
