/* Naive twins of the two recurrences, token by token. */
#include "ref/ref.h"

#include <math.h>

/* Column x of S [dk,dv] at one token: u = S^T b, S = exp(g + gv) S + a u + k v, o = S^T q of every
 * head of the group; beta: the delta rule instead */
static void recurrence_column(const ref_recurrence_shape *r, ptrdiff_t at, const ref_recurrence_in *in, int x,
                              double *column, double *out)
{
    const ptrdiff_t keys = at * r->key_dim;
    const double v = in->values[at * r->value_dim + x],
                 keep = in->value_decay ? exp(in->value_decay[at * r->value_dim + x]) : 1.0;
    double seen = 0.0;
    for (ptrdiff_t i = 0; i < r->key_dim; i++) {
        double decay = exp(!in->log_decay ? 0.0 : r->channels ? in->log_decay[keys + i] : in->log_decay[at]);
        double b = in->erase_read ? in->erase_read[keys + i] : in->beta ? decay * in->keys[keys + i] : 0.0;
        seen += b * column[i * r->value_dim];
    }
    for (ptrdiff_t i = 0; i < r->key_dim; i++) {
        double decay = exp(!in->log_decay ? 0.0 : r->channels ? in->log_decay[keys + i] : in->log_decay[at]);
        double *s = column + i * r->value_dim;
        *s = decay * keep * *s + (in->erase_write ? in->erase_write[keys + i] * seen : 0.0) +
             in->keys[keys + i] * (in->beta ? in->beta[at] * (v - seen) : v);
    }
    for (ptrdiff_t head = at * r->group; head < (at + 1) * r->group; head++) {
        double o = 0.0;
        for (ptrdiff_t i = 0; i < r->key_dim; i++)
            o += column[i * r->value_dim] * in->queries[head * r->key_dim + i];
        out[head * r->value_dim + x] = o;
    }
}

void ref_recurrence(const ref_recurrence_shape *r, const ha_batch *batch, const ref_recurrence_in *in, double *state,
                    double *out)
{
    for (int s = 0; s < batch->n_seq; s++)
        for (int t = 0, n = batch->offset[s + 1] - batch->offset[s]; t < n; t++)
            for (int h = 0; h < r->heads; h++) {
                ptrdiff_t at = (ptrdiff_t)(batch->offset[s] + (r->reverse ? n - 1 - t : t)) * r->heads + h;
                double *own = state + ((ptrdiff_t)s * r->heads + h) * r->key_dim * r->value_dim;
                for (int x = 0; x < r->value_dim; x++)
                    recurrence_column(r, at, in, x, own + x, out);
            }
}

/* num_i = S^T f_i + sum_j (f_i . e_j) v_j, den_i = z . f_i + sum_j f_i . e_j over j <= i - lag,
 * bidirectional also over j >= i + lag; `at` begins at the query's and the `keys` keys' head, state
 * S [features, dim], z [features] or NULL */
static void linear_query(const ref_linear_shape *a, ptrdiff_t query, ptrdiff_t keys, const ref_attention_in *at,
                         const double *state, double *numerator, double *denominator)
{
    const ptrdiff_t key_row = (ptrdiff_t)a->kv_heads * a->features, value_row = (ptrdiff_t)a->kv_heads * a->dim;
    *denominator = state ? ref_dot(a->features, at->queries, state + (ptrdiff_t)a->features * a->dim) : 0.0;
    for (int c = 0; c < a->dim; c++) {
        numerator[c] = 0.0;
        for (ptrdiff_t i = 0; state && i < a->features; i++)
            numerator[c] += at->queries[i] * state[i * a->dim + c];
    }
    for (ptrdiff_t j = 0; j < keys; j++) {
        if (j > query - a->lag && !(a->bidirectional && j >= query + a->lag))
            continue;
        double weight = ref_dot(a->features, at->queries, at->keys + j * key_row);
        *denominator += weight;
        for (int c = 0; c < a->dim; c++)
            numerator[c] += weight * at->values[j * value_row + c];
    }
}

void ref_linear_attention(const ref_linear_shape *a, const ha_batch *batch, const ref_attention_in *in, double *state,
                          double *numerator, double *denominator)
{
    const ptrdiff_t F = a->features, D = a->dim;
    for (int s = 0; s < batch->n_seq; s++) {
        const ptrdiff_t start = batch->offset[s], rows = batch->offset[s + 1] - start;
        for (int h = 0; h < a->heads; h++) {
            const ptrdiff_t kv_head = h / (a->heads / a->kv_heads), first = start * a->kv_heads + kv_head;
            for (ptrdiff_t r = 0; r < rows; r++) {
                const ptrdiff_t head = (start + r) * a->heads + h;
                const ref_attention_in at = {in->queries + head * F, in->keys + first * F, in->values + first * D};
                linear_query(a, r, rows, &at, state ? state + (s * a->kv_heads + kv_head) * F * (D + 1) : NULL,
                             numerator + head * D, denominator + head);
            }
        }
        for (int kv_head = 0; state && kv_head < a->kv_heads; kv_head++)
            for (ptrdiff_t r = start; r < start + rows; r++)
                for (ptrdiff_t i = 0; i < F; i++) {
                    double *own = state + ((ptrdiff_t)s * a->kv_heads + kv_head) * F * (D + 1),
                           x = in->keys[(r * a->kv_heads + kv_head) * F + i];
                    for (int c = 0; c < D; c++)
                        own[i * D + c] += x * in->values[(r * a->kv_heads + kv_head) * D + c];
                    own[F * D + i] += x;
                }
    }
}
