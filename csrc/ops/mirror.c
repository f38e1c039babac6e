/* Both directions of a batch in one pass: behind its rows stand the same rows back to front, as
 * sequences of their own, so that an op that looks back looks ahead there. Row r of `rows` has its
 * image at 2 rows - 1 - r; no two sequences mix. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

ha_status ha_mirror_batch(const ha_batch *batch, ha_arena *arena, ha_batch *both)
{
    const int n = batch->n_seq;
    int32_t *offset;
    HA_PUSH(offset, arena, 2 * (size_t)n + 1);
    for (int s = 0; s <= n; s++) {
        offset[s] = batch->offset[s];
        offset[2 * n - s] = 2 * batch->rows - batch->offset[s];
    }
    *both = (ha_batch){.rows = 2 * batch->rows, .n_seq = 2 * n, .offset = offset};
    return HA_OK;
}

void ha_mirror(int rows, int width, const float *x, ptrdiff_t ldx, float *y)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        const float *from = x + r * ldx;
        if (from != y + (ptrdiff_t)r * width)
            memcpy(y + (ptrdiff_t)r * width, from, (size_t)width * sizeof *y);
        memcpy(y + (ptrdiff_t)(2 * rows - 1 - r) * width, from, (size_t)width * sizeof *y);
    }
}

void ha_fold(int rows, int width, const float *x, float *y, ptrdiff_t ldy)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        const float *own = x + (ptrdiff_t)r * width, *image = x + (ptrdiff_t)(2 * rows - 1 - r) * width;
        float *to = y + r * ldy;
        for (int i = 0; i < width; i++)
            to[i] = own[i] + image[i];
    }
}
