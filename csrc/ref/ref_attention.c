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

/* o = sum_j exp(s_j - max) v_j / sum_j exp(s_j - max), s_j = scale q . k_j over the visible of
 * `length` keys; `at` begins at the query's and the keys' head, `to` at the query's */
static void one_query(const ref_attention *a, int query, int length, const ref_attention_in *at,
                      const ref_attention_out *to)
{
    const ptrdiff_t row = (ptrdiff_t)a->kv_heads * a->dim;
    double top = -INFINITY, sum = 0.0;
    for (int j = 0; j < length; j++)
        if (ref_visible(a, query, j))
            top = fmax(top, a->scale * ref_dot(a->dim, at->queries, at->keys + j * row));
    for (int c = 0; c < a->dim; c++)
        to->values[c] = 0.0;
    for (int j = 0; j < length; j++)
        if (ref_visible(a, query, j)) {
            double weight = exp(a->scale * ref_dot(a->dim, at->queries, at->keys + j * row) - top);
            sum += weight;
            for (int c = 0; c < a->dim; c++)
                to->values[c] += weight * at->values[j * row + c];
        }
    for (int c = 0; c < a->dim; c++)
        to->values[c] /= sum;
    if (to->log_sum)
        *to->log_sum = top + log(sum);
    if (to->largest)
        *to->largest = top;
}

void ref_softmax_attention(const ref_attention *a, const ha_batch *batch, const int32_t *key_offset,
                           const ref_attention_in *in, const ref_attention_out *out)
{
    for (int s = 0; s < batch->n_seq; s++) {
        int length = key_offset[s + 1] - key_offset[s], past = length - (batch->offset[s + 1] - batch->offset[s]);
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
            for (int h = 0; h < a->heads; h++) {
                ptrdiff_t head = (ptrdiff_t)r * a->heads + h;
                ptrdiff_t keys = ((ptrdiff_t)key_offset[s] * a->kv_heads + h / (a->heads / a->kv_heads)) * a->dim;
                const ref_attention_in at = {in->queries + head * a->dim, in->keys + keys, in->values + keys};
                const ref_attention_out to = {out->values + head * a->dim, out->log_sum ? out->log_sum + head : NULL,
                                              out->largest ? out->largest + head : NULL};
                one_query(a, past + r - batch->offset[s], length, &at, &to);
            }
    }
}
