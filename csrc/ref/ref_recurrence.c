/* Naive twins of the two recurrences, token by token. */
#include "ref/ref.h"

#include <math.h>

/* Column x of S [dk,dv] at one token: u = S^T b, S = exp(g + gv) S + a u + k v, o = S^T q; beta: the delta rule instead */
static double recurrence_column(const ref_shape *r, ptrdiff_t at, const ref_operands *in, int x, double *column)
{
    const ptrdiff_t keys = at * r->dk;
    const double v = in->v[at * r->dv + x], keep = in->gv ? exp(in->gv[at * r->dv + x]) : 1.0;
    double seen = 0.0, o = 0.0;
    for (ptrdiff_t i = 0; i < r->dk; i++) {
        double decay = exp(!in->g ? 0.0 : r->channels ? in->g[keys + i] : in->g[at]);
        double b = in->b ? in->b[keys + i] : in->beta ? decay * in->k[keys + i] : 0.0;
        seen += b * column[i * r->dv];
    }
    for (ptrdiff_t i = 0; i < r->dk; i++) {
        double decay = exp(!in->g ? 0.0 : r->channels ? in->g[keys + i] : in->g[at]);
        double *s = column + i * r->dv;
        *s = decay * keep * *s + (in->a ? in->a[keys + i] * seen : 0.0) +
             in->k[keys + i] * (in->beta ? in->beta[at] * (v - seen) : v);
        o += *s * in->q[keys + i];
    }
    return o;
}

void ref_recurrence(const ref_shape *r, const ha_batch *batch, const ref_operands *in, double *state, double *out)
{
    for (int s = 0; s < batch->n_seq; s++)
        for (int t = 0, n = batch->offset[s + 1] - batch->offset[s]; t < n; t++)
            for (int h = 0; h < r->heads; h++) {
                ptrdiff_t at = (ptrdiff_t)(batch->offset[s] + (r->reverse ? n - 1 - t : t)) * r->heads + h;
                double *own = state + ((ptrdiff_t)s * r->heads + h) * r->dk * r->dv;
                for (int x = 0; x < r->dv; x++)
                    out[at * r->dv + x] = recurrence_column(r, at, in, x, own + x);
            }
}

/* num_i = S^T f_i + sum_j (f_i . e_j) v_j,  den_i = z . f_i + sum_j f_i . e_j over j <= i - lag, bidirectional also over
 * j >= i + lag */
static void linear_query(const ref_linear_shape *a, ptrdiff_t query, ptrdiff_t keys, const double *f, const double *e,
                         const double *v, const double *state, double *num, double *den)
{
    const ptrdiff_t lde = (ptrdiff_t)a->kv_heads * a->features, ldv = (ptrdiff_t)a->kv_heads * a->dim;
    *den = state ? ref_dot(a->features, f, state + (ptrdiff_t)a->features * a->dim) : 0.0;
    for (int c = 0; c < a->dim; c++) {
        num[c] = 0.0;
        for (ptrdiff_t i = 0; state && i < a->features; i++)
            num[c] += f[i] * state[i * a->dim + c];
    }
    for (ptrdiff_t j = 0; j < keys; j++) {
        if (j > query - a->lag && !(a->bidirectional && j >= query + a->lag))
            continue;
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
                linear_query(a, r, rows, f + at * F, keys, values,
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
