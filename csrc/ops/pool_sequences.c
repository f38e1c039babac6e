/* One row for each sequence: its first, its last, or the mean of all. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

static int row_of(ha_pool_kind pool, const ha_batch *batch, int s)
{
    return pool == HA_POOL_FIRST ? batch->offset[s] : batch->offset[s + 1] - 1;
}

static float share(const ha_batch *batch, int s)
{
    return 1.0f / (float)(batch->offset[s + 1] - batch->offset[s]);
}

void ha_pool_sequences(ha_pool_kind pool, const ha_batch *batch, int d, const float *x, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t bytes = (size_t)d * sizeof *y;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (pool == HA_POOL_MEAN)
    for (int s = 0; s < batch->n_seq; s++) {
        float *to = y + (ptrdiff_t)s * d;
        if (pool != HA_POOL_MEAN) {
            memcpy(to, x + (ptrdiff_t)row_of(pool, batch, s) * d, bytes);
            continue;
        }
        memset(to, 0, bytes);
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            kernel->axpy((size_t)d, share(batch, s), x + (ptrdiff_t)r * d, to);
    }
}

void ha_pool_sequences_backward(ha_pool_kind pool, const ha_batch *batch, int d, const float *dy, float *dx)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t bytes = (size_t)d * sizeof *dx;
    memset(dx, 0, (size_t)batch->rows * bytes);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (pool == HA_POOL_MEAN)
    for (int s = 0; s < batch->n_seq; s++) {
        const float *from = dy + (ptrdiff_t)s * d;
        if (pool != HA_POOL_MEAN)
            memcpy(dx + (ptrdiff_t)row_of(pool, batch, s) * d, from, bytes);
        for (int r = batch->offset[s]; pool == HA_POOL_MEAN && r < batch->offset[s + 1]; r++)
            kernel->axpy((size_t)d, share(batch, s), from, dx + (ptrdiff_t)r * d);
    }
}
