/* Inner products of rows, by sequence and by head. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_dot_per_sequence(const ha_batch *batch, int d, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                         double *out)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int s = 0; s < batch->n_seq; s++) {
        double sum = 0.0;
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            sum += (double)kernel->dot((size_t)d, x + r * ldx, y + r * ldy);
        out[s] = sum;
    }
}

void ha_dot_per_head(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *y, ptrdiff_t ldy,
                     float *delta)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < heads; h++)
            delta[(ptrdiff_t)r * heads + h] =
                kernel->dot((size_t)dim, x + r * ldx + (ptrdiff_t)h * dim, y + r * ldy + (ptrdiff_t)h * dim);
}
