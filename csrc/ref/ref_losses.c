/* Naive twins of the losses and of the optimizer step. Logits are made again wherever they are
 * needed. */
#include "ref/ref.h"

#include <math.h>
#include <string.h>

/* hidden . head_v + bias_v; hidden [width] */
static double logit(const ref_head *head, const double *hidden, ptrdiff_t v)
{
    return ref_dot(head->width, hidden, head->weight + v * head->width) + (head->bias ? head->bias[v] : 0.0);
}

/* log sum_v exp(hidden . head_v + bias_v) */
static double log_sum_exp(const ref_head *head, const double *hidden)
{
    double top = -INFINITY, sum = 0.0;
    for (ptrdiff_t v = 0; v < head->vocabulary; v++)
        top = fmax(top, logit(head, hidden, v));
    for (ptrdiff_t v = 0; v < head->vocabulary; v++)
        sum += exp(logit(head, hidden, v) - top);
    return top + log(sum);
}

/* -log p(target); 0 where the target is -1 */
void ref_cross_entropy(const ref_head *head, int rows, const double *hidden, const int32_t *target, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        const double *own = hidden + r * head->width;
        loss[r] = target[r] < 0 ? 0.0 : log_sum_exp(head, own) - logit(head, own, target[r]);
    }
}

/* sum_v p_v (log p_v - log q_v), p of the teacher and q of the student */
void ref_kl(const ref_head *teacher, const double *teacher_hidden, const ref_head *student, const double *hidden,
            int rows, double *loss)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        const double *t = teacher_hidden + r * teacher->width, *s = hidden + r * student->width;
        double teacher_sum = log_sum_exp(teacher, t), student_sum = log_sum_exp(student, s), sum = 0.0;
        for (ptrdiff_t v = 0; v < teacher->vocabulary; v++) {
            double log_p = logit(teacher, t, v) - teacher_sum, log_q = logit(student, s, v) - student_sum;
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

/* a bfloat16 is the upper half of a float */
static double widened(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* The neighbour below of `value`, or the one above when its distance from the one below, in parts of
 * 65536 of the step between them, and `noise` make 65536. */
static uint16_t by_chance(double value, uint32_t noise)
{
    const float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits >> 16) + ((bits & 0xffff) + noise >= 65536));
}

void ref_adamw_rounded(size_t n, const ref_adamw_options *o, uint32_t key, size_t at, double *p, double *g, uint16_t *m,
                       uint16_t *v)
{
    for (size_t i = 0; i < n; i++) {
        double mean = widened(m[i]), square = widened(v[i]);
        uint32_t x = (uint32_t)(at + i) ^ key; /* "lowbias32" (C. Wellons, 2018) */
        x = (x ^ x >> 16) * 0x7feb352du;
        x = (x ^ x >> 15) * 0x846ca68bu;
        x = x ^ x >> 16;
        ref_adamw(1, o, &p[i], &g[i], &mean, &square);
        m[i] = by_chance(mean, x & 0xffff);
        v[i] = by_chance(square, x >> 16);
    }
}
