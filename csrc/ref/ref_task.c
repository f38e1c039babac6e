/* Naive twins of what the heads of tasks are made of. */
#include "ref/ref.h"

#include <math.h>

/* pool: 0 the first row of each sequence, 1 the last, 2 the mean */
void ref_pool_sequences(int pool, const ha_batch *batch, int d, const double *x, double *y)
{
    for (ptrdiff_t s = 0; s < batch->n_seq; s++)
        for (ptrdiff_t i = 0; i < d; i++) {
            const int from = batch->offset[s], to = batch->offset[s + 1];
            double sum = 0.0;
            for (ptrdiff_t r = from; r < to; r++)
                sum += x[r * d + i];
            y[s * d + i] = pool == 0   ? x[from * (ptrdiff_t)d + i]
                           : pool == 1 ? x[(to - 1) * (ptrdiff_t)d + i]
                                       : sum / (to - from);
        }
}

/* log of the sum of exp(x[from .. to]) */
static double log_sum(int from, int to, const double *x)
{
    double top = -INFINITY, sum = 0.0;
    for (int i = from; i < to; i++)
        top = fmax(top, x[i]);
    for (int i = from; i < to; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

/* -log p(target) of the softmax over each sequence's numbers */
void ref_softmax_cross_entropy(const ha_batch *batch, const double *x, const int32_t *target, double *loss)
{
    for (int s = 0; s < batch->n_seq; s++)
        loss[s] = log_sum(batch->offset[s], batch->offset[s + 1], x) - x[batch->offset[s] + target[s]];
}

/* sum_i p_i (log p_i - log q_i), p of the teacher */
void ref_softmax_kl(const ha_batch *batch, const double *teacher, const double *x, double *loss)
{
    for (int s = 0; s < batch->n_seq; s++) {
        const int from = batch->offset[s], to = batch->offset[s + 1];
        const double t = log_sum(from, to, teacher), q = log_sum(from, to, x);
        loss[s] = 0.0;
        for (int i = from; i < to; i++)
            loss[s] += exp(teacher[i] - t) * (teacher[i] - t - x[i] + q);
    }
}

/* |x - y|^2 over from .. to */
static double squares(ptrdiff_t from, ptrdiff_t to, const double *x, const double *y)
{
    double sum = 0.0;
    for (ptrdiff_t i = from; i < to; i++)
        sum += (x[i] - (y ? y[i] : 0.0)) * (x[i] - (y ? y[i] : 0.0));
    return sum;
}

/* |y - target|^2 / d */
void ref_squared_error(int rows, int d, const double *target, const double *y, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        loss[r] = squares(r * d, (r + 1) * d, y, target) / d;
}

/* |y - target|^2 / |target|^2 */
void ref_relative_error(int rows, int d, const double *target, const double *y, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        loss[r] = squares(r * d, (r + 1) * d, y, target) / squares(r * d, (r + 1) * d, target, NULL);
}
