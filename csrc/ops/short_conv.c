/* Depthwise causal convolution of a few taps, as linear mixers put it before their activation (Dao
 * and Gu 2024).
 *
 * Work is cut into blocks of channels: within one, rows run in order, so the sums over rows in dw
 * have one order. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 64 };

typedef struct {
    int from, n;                   /* channels */
    float tap[HA_MAX_CONV][BLOCK]; /* weights, by tap */
} block;

/* Channels index * BLOCK on, with their taps. */
static block block_at(int index, const ha_short_conv *conv)
{
    const int from = index * BLOCK, left = conv->channels - from;
    block b = {.from = from, .n = left < BLOCK ? left : BLOCK};
    for (int j = 0; j < conv->taps; j++)
        for (int c = 0; c < b.n; c++)
            b.tap[j][c] = conv->weight[(ptrdiff_t)(from + c) * conv->taps + j];
    return b;
}

/* Channels of the input row `at` rows after the sequence's first one, which x begins with; before
 * it lies the state, [taps - 1, channels] or NULL. */
static const float *input(const ha_short_conv *conv, const block *b, ha_rows x, const float *state, int at)
{
    if (at >= 0)
        return x.at + at * x.stride + b->from;
    return state ? state + (ptrdiff_t)(at + conv->taps - 1) * conv->channels + b->from : NULL;
}

/* y [channels of the block] = sum_j tap_j x_{t - taps + 1 + j} */
static void convolve(const ha_short_conv *conv, const block *b, ha_rows x, const float *state, int t, float *y)
{
    memset(y, 0, (size_t)b->n * sizeof *y);
    for (int j = 0; j < conv->taps; j++) {
        const float *in = input(conv, b, x, state, t - conv->taps + 1 + j);
        if (in)
            ha_kernels_get()->mul_add((size_t)b->n, b->tap[j], in, y);
    }
}

void ha_short_conv_forward(const ha_short_conv *conv, const ha_batch *batch, ha_rows x, float *const *state,
                           ha_rows_out y)
{
    const int blocks = (conv->channels + BLOCK - 1) / BLOCK, past = conv->taps - 1;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (batch->rows > 4)
    for (int i = 0; i < blocks; i++) {
        const block b = block_at(i, conv);
        for (int s = 0; s < batch->n_seq; s++) {
            const int first = batch->offset[s], n = batch->offset[s + 1] - first;
            const ha_rows rows = ha_rows_from(x, first, 0);
            float *own = state ? state[s] : NULL;
            for (int t = 0; t < n; t++)
                convolve(conv, &b, rows, own, t, y.at + (first + t) * y.stride + b.from);
            for (int t = 0; own && t < past; t++)
                memcpy(own + (ptrdiff_t)t * conv->channels + b.from, input(conv, &b, rows, own, t + n - past),
                       (size_t)b.n * sizeof *own);
        }
    }
}

void ha_short_conv_backward(const ha_short_conv *conv, const ha_batch *batch, ha_rows x, ha_rows dy, ha_rows_out dx,
                            float *dweight)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int blocks = (conv->channels + BLOCK - 1) / BLOCK, taps = conv->taps;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int i = 0; i < blocks; i++) {
        const block b = block_at(i, conv);
        float dtap[HA_MAX_CONV][BLOCK] = {{0}};
        for (int s = 0; s < batch->n_seq; s++) {
            const int first = batch->offset[s], n = batch->offset[s + 1] - first;
            for (int t = 0; t < n; t++) {
                const float *up = dy.at + (first + t) * dy.stride + b.from;
                for (int j = 0; j < taps; j++) {
                    const int at = t - taps + 1 + j;
                    if (at < 0)
                        continue;
                    kernel->mul_add((size_t)b.n, b.tap[j], up, dx.at + (first + at) * dx.stride + b.from);
                    kernel->mul_add((size_t)b.n, x.at + (first + at) * x.stride + b.from, up, dtap[j]);
                }
            }
        }
        for (int j = 0; dweight && j < taps; j++)
            for (int c = 0; c < b.n; c++)
                dweight[(ptrdiff_t)(b.from + c) * taps + j] += dtap[j][c];
    }
}
