/* Activations of an MLP without a gate. Floor: reads x and writes y once, 8n bytes. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { PIECE = 4096 };

static size_t piece(size_t n, size_t at)
{
    return n - at < PIECE ? n - at : PIECE;
}

void ha_act_forward(ha_act f, size_t n, const float *x, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE)
        kernel->act[f](piece(n, at), x + at, y + at);
}

void ha_act_backward(ha_act f, size_t n, float *x, const float *dy, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE) {
        if (y)
            kernel->act[f](piece(n, at), x + at, y + at);
        kernel->act_backward[f](piece(n, at), x + at, dy + at, x + at);
    }
}
