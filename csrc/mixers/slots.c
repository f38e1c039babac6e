#include "mixers/slots.h"

#include "core/thread.h"
#include "kernels/kernels.h"

typedef struct {
    ha_recurrence find, read;       /* K q: the values' channels are the slots and decay; V^T p */
    ha_recurrence_in found, summed; /* their operands */
    float *p, *raw;                 /* softmax [rows, heads, slots]; o before silu [rows, inner] */
    float *find_states, *read_states;
} passes;

/* Both passes, with their operands and where they lie in `saved`. */
static passes passes_of(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                        float *saved)
{
    const size_t rows = (size_t)batch->rows;
    const int group = ha_recurrent_group(l);
    passes x = {.find = {l->kv_heads, l->dim, l->slots, HA_GATE_VALUE, group},
                .read = {l->kv_heads, l->slots, l->dim, HA_GATE_CHANNEL, group},
                .p = saved,
                .raw = saved + rows * (size_t)(l->heads * l->slots)};
    x.find_states = x.raw + rows * (size_t)l->inner;
    x.read_states = x.find_states + ha_recurrence_states(&x.find, batch);
    x.found = (ha_recurrence_in){.queries = in->queries,
                                 .keys = in->keys,
                                 .values = in->written,
                                 .log_decay = in->log_decay,
                                 .query_stride = l->inner,
                                 .key_stride = l->kept,
                                 .value_stride = l->gated};
    x.summed = (ha_recurrence_in){.queries = x.p,
                                  .keys = in->written,
                                  .values = in->values,
                                  .log_decay = in->log_decay,
                                  .query_stride = (ptrdiff_t)l->heads * l->slots,
                                  .key_stride = l->gated,
                                  .value_stride = l->kept};
    return x;
}

size_t ha_slots_saved(const ha_recurrent_layout *l, const ha_batch *batch)
{
    const ha_recurrence shape = {l->kv_heads, l->dim, l->slots, HA_GATE_VALUE, ha_recurrent_group(l)};
    return (size_t)batch->rows * (size_t)(l->heads * l->slots + l->inner) + 2 * ha_recurrence_states(&shape, batch);
}

/* x = softmax(x) */
static void softmax(int n, float *x)
{
    const ha_kernels *kernel = ha_kernels_get();
    float top = HA_NO_MAX, sum = 0.0f, correction;
    kernel->softmax_step(1, n, x, n, &top, &sum, &correction);
    sum = 1.0f / sum;
    kernel->scale_rows(1, n, x, n, &sum);
}

ha_status ha_slots_forward(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                           float *const *state, float *o, float *saved, ha_arena *arena)
{
    const size_t half = l->state / 2;
    const int keep = saved != NULL;
    float **values;
    if (!keep)
        HA_PUSH(saved, arena, (size_t)batch->rows * (size_t)(l->heads * l->slots + l->inner));
    HA_PUSH(values, arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++)
        values[s] = state[s] ? state[s] + half : NULL;
    const passes x = passes_of(l, batch, in, saved);
    const ha_recurrence_saved found = {NULL, x.find_states}, summed = {NULL, x.read_states};
    HA_TRY(ha_recurrence_forward(&x.find, batch, &x.found, state, state, ha_rows_to(x.p, x.summed.query_stride),
                                 keep ? &found : NULL, arena));
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (batch->rows > 4)
    for (int r = 0; r < batch->rows; r++)
        for (int h = 0; h < l->heads; h++)
            softmax(l->slots, x.p + ((ptrdiff_t)r * l->heads + h) * l->slots);
    HA_TRY(ha_recurrence_forward(&x.read, batch, &x.summed, values, values, ha_rows_to(x.raw, l->inner),
                                 keep ? &summed : NULL, arena));
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (batch->rows > 4)
    for (int r = 0; r < batch->rows; r++)
        ha_activate(HA_ACT_SILU, (size_t)l->inner, x.raw + (ptrdiff_t)r * l->inner, o + (ptrdiff_t)r * l->inner);
    return HA_OK;
}

ha_status ha_slots_backward(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                            float *saved, const float *d_o, const ha_recurrent_operands *d, ha_arena *arena)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int rows = batch->rows;
    const size_t gated = (size_t)rows * (size_t)l->gated, read = (size_t)rows * (size_t)(l->heads * l->slots);
    const passes x = passes_of(l, batch, in, saved);
    const ha_recurrence_saved found = {NULL, x.find_states}, summed = {NULL, x.read_states};
    float *draw, *dp, *dwrite, *dg;
    HA_PUSH(draw, arena, (size_t)rows * (size_t)l->inner);
    HA_PUSH(dp, arena, read);
    HA_PUSH(dwrite, arena, gated);
    HA_PUSH(dg, arena, gated);
    const ha_recurrence_out dsummed = {.queries = dp,
                                       .keys = d->written,
                                       .values = d->values,
                                       .log_decay = d->log_decay,
                                       .query_stride = x.summed.query_stride,
                                       .key_stride = l->gated,
                                       .value_stride = l->kept};
    const ha_recurrence_out dfound = {.queries = d->queries,
                                      .keys = d->keys,
                                      .values = dwrite,
                                      .log_decay = dg,
                                      .query_stride = l->inner,
                                      .key_stride = l->kept,
                                      .value_stride = l->gated};
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * l->inner;
        ha_activate_backward(HA_ACT_SILU, (size_t)l->inner, x.raw + at, d_o + at, draw + at);
    }
    HA_TRY(
        ha_recurrence_backward(&x.read, batch, &x.summed, &summed, ha_rows_of(draw, l->inner), NULL, &dsummed, arena));
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < l->heads; h++) {
            const float *p = x.p + ((ptrdiff_t)r * l->heads + h) * l->slots;
            float *to = dp + (p - x.p), along = kernel->dot((size_t)l->slots, p, to);
            for (int i = 0; i < l->slots; i++)
                to[i] = p[i] * (to[i] - along);
        }
    HA_TRY(ha_recurrence_backward(&x.find, batch, &x.found, &found, ha_rows_of(dp, x.summed.query_stride), NULL,
                                  &dfound, arena));
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++)
        for (ptrdiff_t i = (ptrdiff_t)r * l->gated, end = i + l->gated; i < end; i++) {
            d->written[i] += dwrite[i];
            d->log_decay[i] += dg[i];
        }
    return HA_OK;
}
