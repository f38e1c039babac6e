/* Softmax attention for one new query a sequence: every key and value is read once for all heads of its group.
 *
 * Floor: 8 kv_heads*dim*length bytes (4 when stored as halves) at memory bandwidth. The keys are cut in pieces of fixed length, each with its own
 * maximum and sum, and the pieces are joined in order. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

enum { PIECE = 256, BLOCK = 64, HEADS = 6 }; /* keys of a task; keys and heads of a step, in L1 */

typedef struct {
    int seq, kv_head, from, to;
} piece;

/* acc [group, dim], max and sum [group] of one piece */
static void one_piece(const ha_attention *a, const ha_keys *keys, const piece *p, const float *q, float *acc,
                      float *max, float *sum)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int d = a->dim, group = a->heads / a->kv_heads, half = keys->type == HA_F16;
    const ptrdiff_t size = (ptrdiff_t)ha_dtype_size(keys->type);
    float s[HEADS * BLOCK], correction[HEADS];
    memset(acc, 0, sizeof *acc * (size_t)(group * d));
    for (int g = 0; g < group; g++) {
        max[g] = HA_NO_MAX;
        sum[g] = 0.0f;
    }
    for (int from = p->from; from < p->to; from += BLOCK) {
        int n = p->to - from < BLOCK ? p->to - from : BLOCK;
        ptrdiff_t at = (p->kv_head * keys->head_stride + from * keys->row) * size;
        const ha_cached_rows k = {(const char *)keys->k + at, keys->row, half, n, d};
        const ha_cached_rows v = {(const char *)keys->v + at, keys->row, half, n, d};
        for (int g = 0; g < group; g += HEADS) {
            int m = group - g < HEADS ? group - g : HEADS;
            kernel->decode_scores(&k, m, a->scale, q + (ptrdiff_t)g * d, ha_rows_to(s, BLOCK));
            for (int i = 0; i < m; i++)
                mask_tile(a, keys->past, 1, from, from + n, s + (ptrdiff_t)i * BLOCK, BLOCK);
            kernel->softmax_step(m, n, s, BLOCK, max + g, sum + g, correction);
            kernel->scale_rows(m, d, acc + (ptrdiff_t)g * d, d, correction);
            kernel->decode_mix(&v, m, ha_rows_of(s, BLOCK), acc + (ptrdiff_t)g * d);
        }
    }
}

ha_status ha_attention_decode(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                              const ha_attention_out *out, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(work);
    const int d = a->dim, group = a->heads / a->kv_heads;
    int pieces = 0;
    for (int s = 0; s < batch->n_seq; s++)
        pieces += a->kv_heads * (keys[s].length / PIECE + 3);
    piece *list;
    float *acc, *max, *sum;
    HA_PUSH(list, work, (size_t)pieces);
    pieces = 0;
    for (int s = 0; s < batch->n_seq; s++) {
        key_range r = keys_of(a, keys[s].past, keys[s].past, keys[s].length);
        for (int h = 0; h < a->kv_heads; h++) {
            for (int from = 0; from < r.sink_end; from += PIECE)
                list[pieces++] = (piece){s, h, from, from + PIECE < r.sink_end ? from + PIECE : r.sink_end};
            for (int from = r.from; from < r.to; from += PIECE)
                list[pieces++] = (piece){s, h, from, from + PIECE < r.to ? from + PIECE : r.to};
        }
    }
    HA_PUSH(acc, work, (size_t)pieces * (size_t)(group * d));
    HA_PUSH(max, work, (size_t)pieces * (size_t)group);
    HA_PUSH(sum, work, (size_t)pieces * (size_t)group);
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (pieces > a->kv_heads)
    for (int p = 0; p < pieces; p++)
        one_piece(a, &keys[list[p].seq], &list[p],
                  queries.at + list[p].seq * queries.stride + (ptrdiff_t)list[p].kv_head * group * d,
                  acc + (ptrdiff_t)p * group * d, max + (ptrdiff_t)p * group, sum + (ptrdiff_t)p * group);
    for (int p = 0, end; p < pieces; p = end) {
        int s = list[p].seq, h = list[p].kv_head;
        for (end = p + 1; end < pieces && list[end].seq == s && list[end].kv_head == h;)
            end++;
        for (int g = 0; g < group; g++) {
            int head = h * group + g;
            float *to = out->values.at + s * out->values.stride + (ptrdiff_t)head * d, top = HA_NO_MAX, total = 0.0f;
            for (int i = p; i < end; i++)
                top = fmaxf(top, max[(ptrdiff_t)i * group + g]);
            memset(to, 0, sizeof *to * (size_t)d);
            for (int i = p; i < end; i++) {
                float weight = expf(max[(ptrdiff_t)i * group + g] - top);
                total += weight * sum[(ptrdiff_t)i * group + g];
                kernel->axpy((size_t)d, weight, acc + ((ptrdiff_t)i * group + g) * d, to);
            }
            for (int c = 0; c < d; c++)
                to[c] /= total;
            if (out->log_sum)
                out->log_sum[(ptrdiff_t)s * a->heads + head] = top + logf(total);
            if (out->largest)
                out->largest[(ptrdiff_t)s * a->heads + head] = top;
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
