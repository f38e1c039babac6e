/* Depthwise causal convolution of a few taps, as linear mixers put it before their activation (Dao and Gu 2024).
 *
 * Work is cut into blocks of channels: within one, rows run in order, so the sums over rows in dw have one order. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 64 };

typedef struct {
    int from, n;                   /* channels */
    float tap[HA_MAX_CONV][BLOCK]; /* weights, by tap */
} block;

static block block_at(int index, int d, int width, const float *w)
{
    block b = {.from = index * BLOCK, .n = d - index * BLOCK < BLOCK ? d - index * BLOCK : BLOCK};
    for (int j = 0; j < width; j++)
        for (int c = 0; c < b.n; c++)
            b.tap[j][c] = w[(ptrdiff_t)(b.from + c) * width + j];
    return b;
}

/* Channels of the input row `at` rows after the sequence's first one; before it lies the state, [width-1, d] or NULL. */
static const float *input(const block *b, int d, int width, const float *x, ptrdiff_t ldx, const float *state, int at)
{
    if (at >= 0)
        return x + at * ldx + b->from;
    return state ? state + (ptrdiff_t)(at + width - 1) * d + b->from : NULL;
}

/* y = sum_j tap_j x_{t - width + 1 + j} */
static void convolve(const block *b, int d, int width, const float *x, ptrdiff_t ldx, const float *state, int t,
                     float *y)
{
    memset(y, 0, (size_t)b->n * sizeof *y);
    for (int j = 0; j < width; j++) {
        const float *in = input(b, d, width, x, ldx, state, t - width + 1 + j);
        if (in)
            ha_kernels_get()->mul_add((size_t)b->n, b->tap[j], in, y);
    }
}

void ha_short_conv_forward(const ha_batch *batch, int d, int width, const float *x, ptrdiff_t ldx, const float *w,
                           float *const *state, float *y, ptrdiff_t ldy)
{
    const int blocks = (d + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (batch->rows > 4)
    for (int i = 0; i < blocks; i++) {
        const block b = block_at(i, d, width, w);
        for (int s = 0; s < batch->n_seq; s++) {
            const int first = batch->offset[s], n = batch->offset[s + 1] - first;
            const float *rows = x + first * ldx;
            float *own = state ? state[s] : NULL;
            for (int t = 0; t < n; t++)
                convolve(&b, d, width, rows, ldx, own, t, y + (first + t) * ldy + b.from);
            for (int t = 0; own && t < width - 1; t++)
                memcpy(own + (ptrdiff_t)t * d + b.from, input(&b, d, width, rows, ldx, own, t + n - width + 1),
                       (size_t)b.n * sizeof *own);
        }
    }
}

void ha_short_conv_backward(const ha_batch *batch, int d, int width, const float *x, ptrdiff_t ldx, const float *w,
                            const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int blocks = (d + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int i = 0; i < blocks; i++) {
        const block b = block_at(i, d, width, w);
        float dtap[HA_MAX_CONV][BLOCK] = {{0}};
        for (int s = 0; s < batch->n_seq; s++) {
            const int first = batch->offset[s], n = batch->offset[s + 1] - first;
            const float *rows = x + first * ldx;
            for (int t = 0; t < n; t++) {
                const float *up = dy + (first + t) * lddy + b.from;
                for (int j = 0; j < width; j++) {
                    int at = t - width + 1 + j;
                    if (at < 0)
                        continue;
                    kernel->mul_add((size_t)b.n, b.tap[j], up, dx + (first + at) * lddx + b.from);
                    kernel->mul_add((size_t)b.n, rows + at * ldx + b.from, up, dtap[j]);
                }
            }
        }
        for (int j = 0; dw && j < width; j++)
            for (int c = 0; c < b.n; c++)
                dw[(ptrdiff_t)(b.from + c) * width + j] += dtap[j][c];
    }
}
