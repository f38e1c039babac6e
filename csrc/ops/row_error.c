/* Distances between rows: of step 1 (two mixers' outputs), of values, of hidden states. Floor: one
 * pass over them. */
#include <float.h>
#include <math.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

/* |y - target|^2 of d numbers */
static double distance(int d, const float *target, const float *y)
{
    double sum = 0.0;
    for (int i = 0; i < d; i++) {
        double e = (double)y[i] - (double)target[i];
        sum += e * e;
    }
    return sum;
}

static void difference(int d, const float *target, const float *y, float factor, float *dy)
{
    for (int i = 0; i < d; i++)
        dy[i] = factor * (y[i] - target[i]);
}

/* At distance zero the norm has no gradient; zero is its smallest subgradient. */
void ha_align_loss(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * d;
        double norm = sqrt(distance(d, target + at, y + at)), unit = 1.0 / sqrt((double)d);
        loss[r] = norm * unit;
        if (dy)
            difference(d, target + at, y + at, norm > 0.0 ? (float)((double)scale * unit / norm) : 0.0f, dy + at);
    }
}

void ha_squared_error(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 64)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * d;
        loss[r] = distance(d, target + at, y + at) / d;
        if (dy)
            difference(d, target + at, y + at, 2.0f * scale / (float)d, dy + at);
    }
}

void ha_relative_error(int rows, int d, const float *target, const float *y, const float *weight, float scale,
                       double *loss, float *dy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * d;
        double size = kernel->sum_squares((size_t)d, target + at);
        if (size < (double)FLT_MIN) /* a target of zero: any error is huge, none is 0 */
            size = (double)FLT_MIN;
        loss[r] = distance(d, target + at, y + at) / size;
        if (dy)
            difference(d, target + at, y + at, (float)(2.0 * (double)(weight ? scale * weight[r] : scale) / size),
                       dy + at);
    }
}
