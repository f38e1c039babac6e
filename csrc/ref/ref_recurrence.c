/* Naive twins of the two recurrences, token by token. */
#include "ref/ref.h"

#include <math.h>

/* One token and head, by columns of S [dk,dv]: S = exp(g) S + k u^T with u = beta (v - exp(g) S^T k), o = S^T q */
static void delta_token(int dk, int dv, const double *q, const double *k, const double *v, double g, double beta,
                        double *state, double *out)
{
    const double decay = exp(g);
    for (ptrdiff_t x = 0; x < dv; x++) {
        double seen = 0.0, o = 0.0;
        for (ptrdiff_t i = 0; i < dk; i++)
            seen += decay * state[i * dv + x] * k[i];
        for (ptrdiff_t i = 0; i < dk; i++) {
            state[i * dv + x] = decay * state[i * dv + x] + beta * k[i] * (v[x] - seen);
            o += state[i * dv + x] * q[i];
        }
        out[x] = o;
    }
}

void ref_gated_delta(const ref_delta *d, const ha_batch *batch, const double *q, const double *k, const double *v,
                     const double *g, const double *beta, double *state, double *out)
{
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            for (int h = 0; h < d->heads; h++) {
                ptrdiff_t at = (ptrdiff_t)r * d->heads + h;
                double *own = state + ((ptrdiff_t)s * d->heads + h) * d->dk * d->dv;
                delta_token(d->dk, d->dv, q + at * d->dk, k + at * d->dk, v + at * d->dv, g[at], beta[at], own,
                            out + at * d->dv);
            }
}

/* num_i = S^T f_i + sum_{j <= i - lag} (f_i . e_j) v_j,  den_i = z . f_i + sum_{j <= i - lag} f_i . e_j */
static void linear_query(const ref_linear_shape *a, int keys, const double *f, const double *e, const double *v,
                         const double *state, double *num, double *den)
{
    const ptrdiff_t lde = (ptrdiff_t)a->kv_heads * a->features, ldv = (ptrdiff_t)a->kv_heads * a->dim;
    *den = state ? ref_dot(a->features, f, state + (ptrdiff_t)a->features * a->dim) : 0.0;
    for (int c = 0; c < a->dim; c++) {
        num[c] = 0.0;
        for (ptrdiff_t i = 0; state && i < a->features; i++)
            num[c] += f[i] * state[i * a->dim + c];
    }
    for (int j = 0; j < keys; j++) {
        double weight = ref_dot(a->features, f, e + j * lde);
        *den += weight;
        for (int c = 0; c < a->dim; c++)
            num[c] += weight * v[j * ldv + c];
    }
}

void ref_linear_attention(const ref_linear_shape *a, const ha_batch *batch, const double *f, const double *e,
                          const double *v, double *state, double *num, double *den)
{
    const ptrdiff_t F = a->features, D = a->dim;
    for (int s = 0; s < batch->n_seq; s++) {
        const ptrdiff_t start = batch->offset[s], rows = batch->offset[s + 1] - start;
        for (int h = 0; h < a->heads; h++) {
            int kv = h / (a->heads / a->kv_heads);
            const double *keys = e + (start * a->kv_heads + kv) * F, *values = v + (start * a->kv_heads + kv) * D;
            for (ptrdiff_t r = 0; r < rows; r++) {
                ptrdiff_t at = (start + r) * a->heads + h;
                int seen = r - a->lag + 1 > 0 ? (int)r - a->lag + 1 : 0;
                linear_query(a, seen, f + at * F, keys, values,
                             state ? state + ((ptrdiff_t)s * a->kv_heads + kv) * F * (D + 1) : NULL, num + at * D,
                             den + at);
            }
        }
        for (int kv = 0; state && kv < a->kv_heads; kv++)
            for (ptrdiff_t r = start; r < start + rows; r++)
                for (ptrdiff_t i = 0; i < F; i++) {
                    double *own = state + ((ptrdiff_t)s * a->kv_heads + kv) * F * (D + 1),
                           x = e[(r * a->kv_heads + kv) * F + i];
                    for (int c = 0; c < D; c++)
                        own[i * D + c] += x * v[(r * a->kv_heads + kv) * D + c];
                    own[F * D + i] += x;
                }
    }
}
