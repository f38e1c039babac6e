/* Naive twin of ridge regression: Gauss and Jordan on the normal equations of W itself, a row of W
 * at a time. */
#include "ref/ref.h"

#include <math.h>

/* system [in, in + 1] becomes the identity and, in its last column, the solution. */
static void eliminate(int in, double *system)
{
    const ptrdiff_t width = in + 1;
    for (ptrdiff_t k = 0; k < in; k++) {
        ptrdiff_t pivot = k;
        for (ptrdiff_t i = k; i < in; i++)
            if (fabs(system[i * width + k]) > fabs(system[pivot * width + k]))
                pivot = i;
        for (ptrdiff_t j = 0; j < width; j++) {
            const double kept = system[k * width + j];
            system[k * width + j] = system[pivot * width + j];
            system[pivot * width + j] = kept;
        }
        for (ptrdiff_t j = in; j >= k; j--)
            system[k * width + j] /= system[k * width + k];
        for (ptrdiff_t i = 0; i < in; i++)
            for (ptrdiff_t j = in; i != k && j >= k; j--)
                system[i * width + j] -= system[i * width + k] * system[k * width + j];
    }
}

void ref_least_squares(const ref_regression *g, double *weight)
{
    const ptrdiff_t in = g->in, out = g->out;
    double mean = 0.0;
    for (ptrdiff_t i = 0; i < g->rows * in; i++)
        mean += g->x[i] * g->x[i] / (double)in;
    const double pull = g->damping * (mean > 0.0 ? mean : 1.0);
    for (ptrdiff_t o = 0; o < out; o++) {
        for (ptrdiff_t i = 0; i < in; i++)
            for (ptrdiff_t j = 0; j <= in; j++) {
                const int last = j == in;
                double sum = 0.0;
                for (ptrdiff_t r = 0; r < g->rows; r++)
                    sum += g->x[r * in + i] * (last ? g->y[r * out + o] : g->x[r * in + j]);
                if (last || i == j)
                    sum += pull * (last ? g->start[o * in + i] : 1.0);
                g->system[i * (in + 1) + j] = sum;
            }
        eliminate(g->in, g->system);
        for (ptrdiff_t i = 0; i < in; i++)
            weight[o * in + i] = g->system[i * (in + 1) + in];
    }
}
