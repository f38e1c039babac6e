/* RMSNorm. Floor: reads x and writes y once, 8 rows*d bytes. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 32 };

void ha_rms_norm_forward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps, float *y,
                         ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > BLOCK)
    for (int r = 0; r < rows; r++)
        kernel->rms_norm(d, x + r * ldx, w, eps, y + r * ldy);
}

ha_status ha_rms_norm_backward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps,
                               const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(work);
    int blocks = (rows + BLOCK - 1) / BLOCK;
    float *partial = NULL; /* [blocks,d]: dw of each block, added in order afterwards */
    if (dw)
        HA_PUSH(partial, work, (size_t)blocks * (size_t)d);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        float *sum = partial ? partial + (ptrdiff_t)b * d : NULL;
        if (sum)
            memset(sum, 0, (size_t)d * sizeof *sum);
        for (int r = b * BLOCK; r < rows && r < (b + 1) * BLOCK; r++)
            kernel->rms_norm_backward(d, x + r * ldx, w, eps, dy + r * lddy, dx + r * lddx, sum);
    }
    for (int b = 0; partial && b < blocks; b++)
        kernel->axpy((size_t)d, 1.0f, partial + (ptrdiff_t)b * d, dw);
    ha_arena_release(work, mark);
    return HA_OK;
}
