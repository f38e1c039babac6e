/* Softmax losses on the few numbers that a task's head gives. Floor: one pass over them. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_pieces_cross_entropy(int n, const int32_t *offset, float *x, const int32_t *target, float scale, double *loss)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > 16)
    for (int i = 0; i < n; i++)
        loss[i] = kernel->cross_entropy_row(offset[i + 1] - offset[i], x + offset[i], target[i], scale);
}

void ha_pieces_kl(int n, const int32_t *offset, float *teacher, float *x, float scale, double *loss)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > 16)
    for (int i = 0; i < n; i++) {
        double log_sum;
        loss[i] = kernel->kl_row(offset[i + 1] - offset[i], x + offset[i], teacher + offset[i], scale, &log_sum);
    }
}
