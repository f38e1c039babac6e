/* Softmax attention for one new query a sequence, or a few: a query's bits do not depend on those
 * beside it. Every key and value is read from memory once for all heads of its group and all
 * queries of its sequence.
 *
 * Floor: 8 kv_heads*dim*length bytes (4 when stored as halves) at memory bandwidth. The keys are
 * cut in pieces of fixed length, each with its own maximum and sum, and the pieces are joined in
 * order. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

enum { PIECE = 256, BLOCK = 64, HEADS = 6 }; /* keys of a task; keys and heads of a step, in L1 */

typedef struct {
    int seq, row, kv_head, query, from, to; /* query: its place in the sequence */
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
                mask_tile(a, p->query, 1, from, from + n, s + (ptrdiff_t)i * BLOCK, BLOCK);
            kernel->softmax_step(m, n, s, BLOCK, max + g, sum + g, correction);
            kernel->scale_rows(m, d, acc + (ptrdiff_t)g * d, d, correction);
            kernel->decode_mix(&v, m, ha_rows_of(s, BLOCK), acc + (ptrdiff_t)g * d);
        }
    }
}

/* The pieces of one query, head by head. */
static int pieces_of(const ha_attention *a, const ha_keys *keys, piece own, piece *list)
{
    const key_range r = keys_of(a, own.query, own.query, keys->length);
    int n = 0;
    for (own.kv_head = 0; own.kv_head < a->kv_heads; own.kv_head++)
        for (int part = 0; part < 2; part++) {
            const int end = part ? r.to : r.sink_end;
            for (own.from = part ? r.from : 0; own.from < end; own.from += PIECE) {
                own.to = own.from + PIECE < end ? own.from + PIECE : end;
                list[n++] = own;
            }
        }
    return n;
}

/* The order in which pieces are worked on: the same keys for one query after the other, while they
 * are in L2. first [rows + 1]: of each query in the list. */
static void order_of(const ha_batch *batch, const int *first, int *order)
{
    int n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int i = 0, left = 1; left; i++) {
            left = 0;
            for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
                if (first[r] + i < first[r + 1]) {
                    order[n++] = first[r] + i;
                    left = 1;
                }
        }
}

typedef struct {
    float *acc, *max, *sum; /* [pieces, group, dim], [pieces, group] */
} partial;

/* Pieces p .. end - 1 of one query and head become its output. */
static void join(const ha_attention *a, const piece *own, int p, int end, const partial *x, const ha_attention_out *out)
{
    const int d = a->dim, group = a->heads / a->kv_heads;
    for (int g = 0; g < group; g++) {
        const ptrdiff_t head = (ptrdiff_t)own->kv_head * group + g, at = own->row * (ptrdiff_t)a->heads + head;
        float *to = out->values.at + own->row * out->values.stride + head * d, top = HA_NO_MAX, total = 0.0f;
        for (int i = p; i < end; i++)
            top = fmaxf(top, x->max[(ptrdiff_t)i * group + g]);
        memset(to, 0, sizeof *to * (size_t)d);
        for (int i = p; i < end; i++) {
            float weight = expf(x->max[(ptrdiff_t)i * group + g] - top);
            total += weight * x->sum[(ptrdiff_t)i * group + g];
            ha_kernels_get()->axpy((size_t)d, weight, x->acc + ((ptrdiff_t)i * group + g) * d, to);
        }
        for (int c = 0; c < d; c++)
            to[c] /= total;
        if (out->log_sum)
            out->log_sum[at] = top + logf(total);
        if (out->largest)
            out->largest[at] = top;
    }
}

ha_status ha_attention_decode(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                              const ha_attention_out *out, ha_arena *work)
{
    size_t mark = ha_arena_mark(work);
    const int d = a->dim, group = a->heads / a->kv_heads;
    int pieces = 0;
    for (int s = 0; s < batch->n_seq; s++)
        pieces += (batch->offset[s + 1] - batch->offset[s]) * a->kv_heads * (keys[s].length / PIECE + 3);
    piece *list;
    int *order, *first;
    partial x;
    HA_PUSH(list, work, (size_t)pieces);
    HA_PUSH(order, work, (size_t)pieces);
    HA_PUSH(first, work, (size_t)batch->rows + 1);
    pieces = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++) {
            const piece own = {.seq = s, .row = r, .query = keys[s].past + r - batch->offset[s]};
            first[r] = pieces;
            pieces += pieces_of(a, &keys[s], own, list + pieces);
        }
    first[batch->rows] = pieces;
    order_of(batch, first, order);
    HA_PUSH(x.acc, work, (size_t)pieces * (size_t)(group * d));
    HA_PUSH(x.max, work, (size_t)pieces * (size_t)group);
    HA_PUSH(x.sum, work, (size_t)pieces * (size_t)group);
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads()) if (pieces > a->kv_heads)
    for (int i = 0; i < pieces; i++) {
        const ptrdiff_t p = order[i];
        one_piece(a, &keys[list[p].seq], &list[p],
                  queries.at + list[p].row * queries.stride + (ptrdiff_t)list[p].kv_head * group * d,
                  x.acc + p * group * d, x.max + p * group, x.sum + p * group);
    }
    for (int p = 0, end; p < pieces; p = end) {
        for (end = p + 1; end < pieces && list[end].row == list[p].row && list[end].kv_head == list[p].kv_head;)
            end++;
        join(a, &list[p], p, end, &x, out);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
