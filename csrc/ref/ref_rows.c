/* Naive twins of the operations on single rows. */
#include "ref/ref.h"

#include <math.h>

double ref_dot(int n, const double *x, const double *y)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

double ref_sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* y[r,o] = bias[o] + sum_i x[r,i] w[o,i] */
void ref_linear(int rows, int in, int out, const double *x, const double *w, const double *bias, double *y)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t o = 0; o < out; o++)
            y[r * out + o] = (bias ? bias[o] : 0.0) + ref_dot(in, x + r * in, w + o * in);
}

/* y = x w / sqrt(mean(x^2) + eps) */
void ref_rms_norm(int rows, int d, const double *x, const double *w, double eps, double *y)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int i = 0; i < d; i++)
            y[r * d + i] = x[r * d + i] * w[i] / sqrt(ref_dot(d, x + r * d, x + r * d) / d + eps);
}

/* y = (x - mean(x)) w / sqrt(mean((x - mean(x))^2) + eps) + b */
void ref_layer_norm(int rows, int d, const double *x, const double *w, const double *b, double eps, double *y)
{
    for (ptrdiff_t r = 0; r < rows; r++) {
        double mean = 0.0, spread = 0.0;
        for (int i = 0; i < d; i++)
            mean += x[r * d + i] / d;
        for (int i = 0; i < d; i++)
            spread += (x[r * d + i] - mean) * (x[r * d + i] - mean) / d;
        for (int i = 0; i < d; i++)
            y[r * d + i] = (x[r * d + i] - mean) * w[i] / sqrt(spread + eps) + b[i];
    }
}

/* f(x) */
static double activation(ha_act kind, double x)
{
    switch (kind) {
    case HA_ACT_GELU:
        return 0.5 * x * erfc(-x / sqrt(2.0));
    case HA_ACT_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case HA_ACT_RELU:
        return fmax(x, 0.0);
    case HA_ACT_SILU:
        return x * ref_sigmoid(x);
    case HA_ACT_SIGMOID:
        return ref_sigmoid(x);
    case HA_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

void ref_activation(ha_act kind, size_t n, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = activation(kind, x[i]);
}

/* (y_i, y_{i+half}) = factor * the pair (x_i, x_{i+half}) turned by position * inv_freq_i; channels
 * behind are as they were */
void ref_rope(const ref_rotation *rotation, int rows, int heads, int dim, const double *x, double *y)
{
    const int half = rotation->half;
    const double factor = rotation->factor;
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int h = 0; h < heads; h++) {
            const double *from = x + (r * heads + h) * dim;
            double *to = y + (r * heads + h) * dim;
            for (int i = 0; i < half; i++) {
                double angle = rotation->position[r] * rotation->inv_freq[i], a = from[i], b = from[i + half];
                to[i] = factor * (a * cos(angle) - b * sin(angle));
                to[i + half] = factor * (b * cos(angle) + a * sin(angle));
            }
            for (int i = 2 * half; i < dim; i++)
                to[i] = from[i];
        }
}

/* y = gate * sigmoid(gate) * up */
void ref_swiglu(int rows, int f, const double *gate_up, double *y)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int i = 0; i < f; i++) {
            double gate = gate_up[r * 2 * f + i], up = gate_up[r * 2 * f + f + i];
            y[r * f + i] = gate * ref_sigmoid(gate) * up;
        }
}

void ref_embed(int rows, int d, const int32_t *token, const double *table, double *x)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (int i = 0; i < d; i++)
            x[r * d + i] = table[(ptrdiff_t)token[r] * d + i];
}

/* elu(x) + 1; max(x, 0); with u = W_h x: exp([u, -u]) over their sum; exp([u, -u] - |x|^2 / (2
 * sqrt(dim))), exponents at most 30. The largest |u| is taken out of the quotient's exponents. */
void ref_feature(int map, int rows, int heads, int dim, const double *x, const double *w, double *y)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t h = 0; h < heads; h++) {
            const double *in = x + (r * heads + h) * dim, half = ref_dot(dim, in, in) / (2.0 * sqrt(dim));
            double *to = y + (r * heads + h) * (w ? 2 * dim : dim), top = 0.0, sum = 0.0;
            for (ptrdiff_t i = 0; i < dim; i++) {
                if (map < 2) {
                    to[i] = map == 0 ? (in[i] > 0.0 ? in[i] + 1.0 : exp(in[i])) : fmax(in[i], 0.0);
                    continue;
                }
                to[i] = ref_dot(dim, w + (h * dim + i) * dim, in);
                to[dim + i] = -to[i];
                top = fmax(top, fabs(to[i]));
            }
            for (int i = 0; map == 2 && i < 2 * dim; i++)
                sum += exp(to[i] - top);
            for (int i = 0; map >= 2 && i < 2 * dim; i++)
                to[i] = map == 2 ? exp(to[i] - top) / sum : exp(fmin(to[i] - half, 30.0));
        }
}

/* y_t = sum_j w[c,j] x_{t - width + 1 + j}; rows before the first are the state's */
void ref_short_conv(const ha_batch *batch, int d, int width, const double *x, const double *w, double *state, double *y)
{
    for (int s = 0; s < batch->n_seq; s++) {
        const ptrdiff_t first = batch->offset[s], n = batch->offset[s + 1] - first;
        double *past = state ? state + (ptrdiff_t)s * (width - 1) * d : NULL;
        for (int c = 0; c < d; c++) {
            for (ptrdiff_t t = 0; t < n; t++) {
                double *u = &y[(first + t) * d + c];
                *u = 0.0;
                for (int j = 0; j < width; j++) {
                    ptrdiff_t at = t - width + 1 + j;
                    *u += w[c * width + j] * (at >= 0 ? x[(first + at) * d + c]
                                              : past  ? past[(at + width - 1) * d + c]
                                                      : 0.0);
                }
            }
            for (ptrdiff_t t = 0; past && t < width - 1; t++) {
                ptrdiff_t at = t + n - width + 1;
                past[t * d + c] = at >= 0 ? x[(first + at) * d + c] : past[(at + width - 1) * d + c];
            }
        }
    }
}

/* y_s = share sum_j w[s,j] x_j for the slots whose stretch begins within the sequence; share: of a
 * stretch, whole / there */
void ref_pool(const ha_batch *batch, int d, int slots, int length, const double *x, const double *w, double *y)
{
    ptrdiff_t at = 0;
    for (int q = 0; q < batch->n_seq; q++)
        for (ptrdiff_t s = 0, first = batch->offset[q], n = batch->offset[q + 1] - first; s < slots; s++) {
            const ptrdiff_t from = s * length / slots, to = (s + 1) * length / slots;
            if (from >= n)
                break;
            for (int c = 0; c < d; c++) {
                double sum = 0.0;
                for (ptrdiff_t j = 0; j < n; j++)
                    sum += w[s * length + j] * x[(first + j) * d + c];
                y[at * d + c] = sum * (double)(to - from) / (double)((to < n ? to : n) - from);
            }
            at++;
        }
}
