/* Naive twins of the losses and of the optimizer step. Logits are made again wherever they are needed. */
#include "ref/ref.h"

#include <math.h>

static double logit(int d, const double *hidden, const double *head, const double *bias, ptrdiff_t v)
{
    return ref_dot(d, hidden, head + v * d) + (bias ? bias[v] : 0.0);
}

/* log sum_v exp(hidden . head_v + bias_v) */
static double log_sum_exp(int d, int vocabulary, const double *hidden, const double *head, const double *bias)
{
    double top = -INFINITY, sum = 0.0;
    for (ptrdiff_t v = 0; v < vocabulary; v++)
        top = fmax(top, logit(d, hidden, head, bias, v));
    for (ptrdiff_t v = 0; v < vocabulary; v++)
        sum += exp(logit(d, hidden, head, bias, v) - top);
    return top + log(sum);
}

/* -log p(target); 0 where the target is -1 */
void ref_cross_entropy(int rows, int d, int vocabulary, const double *hidden, const double *head, const double *bias,
                       const int32_t *target, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        loss[r] = target[r] < 0 ? 0.0
                                : log_sum_exp(d, vocabulary, hidden + r * d, head, bias) -
                                      logit(d, hidden + r * d, head, bias, target[r]);
}

/* sum_v p_v (log p_v - log q_v), p of the teacher and q of the student */
void ref_kl(int rows, int d, int vocabulary, const double *teacher_hidden, const double *teacher_head,
            const double *teacher_bias, const double *hidden, const double *head, const double *bias, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        const double *t = teacher_hidden + r * d, *s = hidden + r * d;
        double lse_t = log_sum_exp(d, vocabulary, t, teacher_head, teacher_bias),
               lse_s = log_sum_exp(d, vocabulary, s, head, bias), sum = 0.0;
        for (ptrdiff_t v = 0; v < vocabulary; v++) {
            double log_p = logit(d, t, teacher_head, teacher_bias, v) - lse_t,
                   log_q = logit(d, s, head, bias, v) - lse_s;
            sum += exp(log_p) * (log_p - log_q);
        }
        loss[r] = sum;
    }
}

/* |y - target| / sqrt(d) */
void ref_align_loss(int rows, int d, const double *target, const double *y, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (ptrdiff_t i = r * d; i < (r + 1) * d; i++)
            sum += (y[i] - target[i]) * (y[i] - target[i]);
        loss[r] = sqrt(sum / d);
    }
}

/* Loshchilov and Hutter 2019, algorithm 2, with the decay scaled by the learning rate */
void ref_adamw(size_t n, const ref_adamw_options *o, double *p, double *g, double *m, double *v)
{
    for (size_t i = 0; i < n; i++) {
        double grad = o->clip * g[i];
        m[i] = o->beta1 * m[i] + (1.0 - o->beta1) * grad;
        v[i] = o->beta2 * v[i] + (1.0 - o->beta2) * grad * grad;
        double mean = m[i] / (1.0 - pow(o->beta1, (double)o->step)),
               square = v[i] / (1.0 - pow(o->beta2, (double)o->step));
        p[i] -= o->lr * (mean / (sqrt(square) + o->eps) + o->decay * p[i]);
        g[i] = 0.0;
    }
}
