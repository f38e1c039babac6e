/* How far, and to how many keys, each head of softmax attention looks.
 *
 * Of query i the share of key j in what comes out is c_ij = p_ij |v_j| / sum_j p_ij |v_j|: attention
 * sinks, whose values are next to zero, hardly count. Its distance is sum_j c_ij log(1 + |i - j|),
 * which a few far keys do not decide; its spread the entropy of c_i over that of as many equal
 * shares, log(visible keys). */
#include <math.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

/* Sums over the queries of one sequence and head; queries that see one key say nothing. */
static void reach_of(const ha_attention *a, const ha_reach_in *in, const int32_t *offset, int h, float *norm,
                     double sum[3])
{
    const ha_kernels *kernel = ha_kernels_get();
    const int length = offset[1] - offset[0], group = a->heads / a->kv_heads;
    const ptrdiff_t column = (ptrdiff_t)(h / group) * a->dim;
    const ha_rows q = ha_rows_from(in->queries, offset[0], (ptrdiff_t)h * a->dim);
    const ha_rows k = ha_rows_from(in->keys, offset[0], column), v = ha_rows_from(in->values, offset[0], column);
    for (int j = 0; j < length; j++) {
        const float *value = v.at + j * v.stride;
        norm[j] = sqrtf(kernel->dot((size_t)a->dim, value, value));
    }
    for (int i = 1; i < length; i += in->every) {
        const float *query = q.at + i * q.stride, log_sum = in->log_sum[(ptrdiff_t)(offset[0] + i) * a->heads + h];
        double total = 0.0, far = 0.0, spread = 0.0;
        int seen = 0;
        for (int j = 0, stop = a->causal ? i + 1 : length; j < stop; j++) {
            if (!visible(a, i, j))
                continue;
            seen++;
            const float logit = a->scale * kernel->dot((size_t)a->dim, query, k.at + j * k.stride);
            const double c = exp((double)(logit - log_sum)) * (double)norm[j];
            total += c;
            far += c * log1p((double)(i < j ? j - i : i - j));
            spread += c > 0.0 ? c * log(c) : 0.0;
        }
        if (seen < 2 || !(total > 0.0))
            continue;
        sum[0] += 1.0;
        sum[1] += far / total;
        sum[2] += (log(total) - spread / total) / log((double)seen);
    }
}

ha_status ha_attention_reach(const ha_attention *a, const ha_batch *batch, const ha_reach_in *in, double *sums,
                             ha_arena *arena)
{
    const int threads = ha_threads(), pairs = batch->n_seq * a->heads;
    const size_t mark = ha_arena_mark(arena);
    double *each;
    float *norm;
    HA_PUSH(each, arena, 3 * (size_t)pairs);
    HA_PUSH(norm, arena, (size_t)threads * (size_t)batch->rows);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int p = 0; p < pairs; p++) {
        double *sum = each + 3 * (ptrdiff_t)p;
        sum[0] = sum[1] = sum[2] = 0.0;
        reach_of(a, in, batch->offset + p / a->heads, p % a->heads, norm + (ptrdiff_t)ha_thread_index() * batch->rows,
                 sum);
    }
    for (int p = 0; p < pairs; p++)
        for (int i = 0; i < 3; i++)
            sums[3 * (p % a->heads) + i] += each[3 * (ptrdiff_t)p + i];
    ha_arena_release(arena, mark);
    return HA_OK;
}
