/* Naive twin of softmax attention: one query at a time, three passes over its keys. */
#include "ref/ref.h"

#include <math.h>
#include <stdlib.h>

int ref_visible(const ref_attention *a, int query, int key)
{
    if (a->causal && key > query)
        return 0;
    return !a->window || key < a->sinks || abs(query - key) < a->window;
}

/* o = sum_j exp(s_j - max) v_j / sum_j exp(s_j - max), s_j = scale q . k_j over the visible keys */
static void one_query(const ref_attention *a, int query, int length, const double *q, const double *k, const double *v,
                      double *out, double *lse, double *max)
{
    const ptrdiff_t row = (ptrdiff_t)a->kv_heads * a->dim;
    double top = -INFINITY, sum = 0.0;
    for (int j = 0; j < length; j++)
        if (ref_visible(a, query, j))
            top = fmax(top, a->scale * ref_dot(a->dim, q, k + j * row));
    for (int c = 0; c < a->dim; c++)
        out[c] = 0.0;
    for (int j = 0; j < length; j++)
        if (ref_visible(a, query, j)) {
            double p = exp(a->scale * ref_dot(a->dim, q, k + j * row) - top);
            sum += p;
            for (int c = 0; c < a->dim; c++)
                out[c] += p * v[j * row + c];
        }
    for (int c = 0; c < a->dim; c++)
        out[c] /= sum;
    if (lse)
        *lse = top + log(sum);
    if (max)
        *max = top;
}

void ref_softmax_attention(const ref_attention *a, const ha_batch *batch, const int32_t *key_offset, const double *q,
                           const double *k, const double *v, double *out, double *lse, double *max)
{
    for (int s = 0; s < batch->n_seq; s++) {
        int length = key_offset[s + 1] - key_offset[s], past = length - (batch->offset[s + 1] - batch->offset[s]);
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            for (int h = 0; h < a->heads; h++) {
                ptrdiff_t at = (ptrdiff_t)r * a->heads + h;
                ptrdiff_t keys = ((ptrdiff_t)key_offset[s] * a->kv_heads + h / (a->heads / a->kv_heads)) * a->dim;
                one_query(a, past + r - batch->offset[s], length, q + at * a->dim, k + keys, v + keys,
                          out + at * a->dim, lse ? lse + at : NULL, max ? max + at : NULL);
            }
    }
}
