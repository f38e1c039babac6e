/* Hidden-state alignment: the L2 distance between two mixers' outputs, token by token. */
#include <math.h>

#include "core/thread.h"
#include "ops/ops.h"

void ha_align_loss(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        const float *t = target + (ptrdiff_t)r * d, *o = y + (ptrdiff_t)r * d;
        double sum = 0.0;
        for (int i = 0; i < d; i++) {
            double e = (double)o[i] - (double)t[i];
            sum += e * e;
        }
        double norm = sqrt(sum), unit = 1.0 / sqrt((double)d);
        loss[r] = norm * unit;
        /* At distance zero the norm has no gradient; zero is its smallest subgradient. */
        float factor = norm > 0.0 ? (float)((double)scale * unit / norm) : 0.0f;
        for (int i = 0; dy && i < d; i++)
            dy[(ptrdiff_t)r * d + i] = factor * (o[i] - t[i]);
    }
}
