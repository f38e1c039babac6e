/* Softmax attention in tiles with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022).
 *
 * Floor: 4 dim FLOP and one exp for each visible (query, key) pair and head; a tile's operands stay
 * in L2. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

/* One tile of queries of one head, row 0 of each array being its first; log_sum and largest are
 * heads apart. */
typedef struct {
    ha_rows queries;                   /* [count, dim] */
    const float *keys_turned, *values; /* all of the sequence: packed columns of keys, packed rows of values */
    int first, count, length;          /* place of the first query among the keys; queries; keys */
    ha_rows_out out;                   /* [count, dim] */
    float *log_sum, *largest;          /* [count, heads], or NULL */
} tile;

/* Logits = q K^T, softmax step, out += P V, tile of keys by tile of keys. scratch [QUERY_TILE, 2
 * dim + KEY_TILE] */
static void query_tile(const ha_attention *a, const tile *t, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int d = a->dim, m = t->count, first = t->first;
    float *scaled = scratch, *acc = scaled + QUERY_TILE * d, *s = acc + QUERY_TILE * d;
    float max[QUERY_TILE], sum[QUERY_TILE], correction[QUERY_TILE];
    for (int r = 0; r < m; r++) {
        for (int c = 0; c < d; c++)
            scaled[r * d + c] = a->scale * t->queries.at[r * t->queries.stride + c];
        max[r] = HA_NO_MAX;
        sum[r] = 0.0f;
    }
    memset(acc, 0, sizeof *acc * (size_t)(m * d));
    key_range range = keys_of(a, first, first + m - 1, t->length);
    for (int end = 0, start; (start = next_tile(&range, end, &end)) >= 0;) {
        int n = end - start;
        for (int r = 0, rows; r < m; r += rows) { /* all at once, but for the tile on the diagonal */
            rows = rows_alike(a, first, r, m, start, n);
            kernel->gemm(ha_matmul_of(rows, seen(a, first + r + rows - 1, start, n), d, 0),
                         ha_view_rows(ha_rows_of(scaled + (ptrdiff_t)r * d, d)),
                         ha_rows_of(packed_column(t->keys_turned, start, d), KEY_TILE),
                         ha_rows_to(s + r * KEY_TILE, KEY_TILE));
        }
        mask_tile(a, first, m, start, end, s, KEY_TILE);
        kernel->softmax_step(m, n, s, KEY_TILE, max, sum, correction);
        kernel->scale_rows(m, d, acc, d, correction);
        for (int r = 0, rows; r < m; r += rows) {
            rows = rows_alike(a, first, r, m, start, n);
            kernel->gemm(ha_matmul_of(rows, d, seen(a, first + r + rows - 1, start, n), 1),
                         ha_view_rows(ha_rows_of(s + r * KEY_TILE, KEY_TILE)),
                         ha_rows_of(packed_row(t->values, start, d), d), ha_rows_to(acc + (ptrdiff_t)r * d, d));
        }
    }
    for (int r = 0; r < m; r++) {
        float inverse = sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f;
        for (int c = 0; c < d; c++)
            t->out.at[r * t->out.stride + c] = acc[r * d + c] * inverse;
        if (t->log_sum)
            t->log_sum[r * a->heads] = max[r] + logf(sum[r]);
        if (t->largest)
            t->largest[r * a->heads] = max[r];
    }
}

/* Floats instead of halves, [kv_heads, length, dim]: a tile visits its keys often. */
static ha_status widen(const ha_attention *a, int n_seq, const ha_keys **keys, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    ha_keys *wide;
    HA_PUSH(wide, work, (size_t)n_seq);
    for (int s = 0; s < n_seq; s++) {
        const ha_keys *from = *keys + s;
        wide[s] = *from;
        if (from->type == HA_F32)
            continue;
        const ptrdiff_t plane = (ptrdiff_t)from->length * a->dim;
        float *k, *v;
        HA_PUSH(k, work, (size_t)(a->kv_heads * plane));
        HA_PUSH(v, work, (size_t)(a->kv_heads * plane));
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
        for (int h = 0; h < a->kv_heads; h++)
            for (int j = 0; j < from->length; j++) {
                ptrdiff_t at = h * from->head_stride + j * from->row, to = h * plane + (ptrdiff_t)j * a->dim;
                kernel->decode[HA_F16]((size_t)a->dim, (const uint16_t *)from->k + at, k + to);
                kernel->decode[HA_F16]((size_t)a->dim, (const uint16_t *)from->v + at, v + to);
            }
        wide[s] = (ha_keys){k, v, a->dim, plane, from->length, from->past, HA_F32};
    }
    *keys = wide;
    return HA_OK;
}

ha_status ha_attention_forward(const ha_attention *a, const ha_batch *batch, ha_rows queries, const ha_keys *keys,
                               const ha_attention_out *out, ha_arena *work)
{
    int few = 1; /* one query, or some that go on behind stored keys */
    for (int s = 0; s < batch->n_seq; s++) {
        const int n = batch->offset[s + 1] - batch->offset[s];
        few &= n == 1 || (a->causal && keys[s].past > 0 && n <= HA_FEW_QUERIES);
    }
    if (few)
        return ha_attention_decode(a, batch, queries, keys, out, work);
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work);
    HA_TRY(widen(a, batch->n_seq, &keys, work));
    const int d = a->dim, kv = a->kv_heads, group = a->heads / a->kv_heads;
    float **packed; /* [n_seq]: packed transposed keys of each head, then packed values */
    int *tile_start, tiles = 0;
    HA_PUSH(packed, work, (size_t)batch->n_seq);
    HA_PUSH(tile_start, work, (size_t)batch->n_seq + 1);
    for (int s = 0; s < batch->n_seq; s++) {
        HA_PUSH(packed[s], work, 2 * (size_t)kv * packed_floats(keys[s].length, d));
        tile_start[s] = tiles;
        tiles += (batch->offset[s + 1] - batch->offset[s] + QUERY_TILE - 1) / QUERY_TILE;
    }
    tile_start[batch->n_seq] = tiles;
    float *scratch;
    size_t per_thread = (size_t)(2 * QUERY_TILE * d + QUERY_TILE * KEY_TILE);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);

#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < kv; h++) {
            size_t each = packed_floats(keys[s].length, d);
            const float *k = (const float *)keys[s].k + h * keys[s].head_stride;
            const float *v = (const float *)keys[s].v + h * keys[s].head_stride;
            pack_columns(keys[s].length, d, k, keys[s].row, packed[s] + (size_t)h * each);
            pack_rows(keys[s].length, d, v, keys[s].row, packed[s] + (size_t)(kv + h) * each);
        }
        /* Longest tiles first: the last ones of a causal sequence see the most keys. */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int t = 0; t < tiles * a->heads; t++) {
        const int h = t % a->heads, number = tiles - 1 - t / a->heads;
        int s = batch->n_seq - 1;
        while (tile_start[s] > number)
            s--;
        const int local = (number - tile_start[s]) * QUERY_TILE, row = batch->offset[s] + local;
        const int left = batch->offset[s + 1] - row;
        const ptrdiff_t at = (ptrdiff_t)row * a->heads + h;
        const size_t each = packed_floats(keys[s].length, d);
        const tile own = {.queries = ha_rows_from(queries, row, (ptrdiff_t)h * d),
                          .keys_turned = packed[s] + (size_t)(h / group) * each,
                          .values = packed[s] + (size_t)(kv + h / group) * each,
                          .first = keys[s].past + local,
                          .count = left < QUERY_TILE ? left : QUERY_TILE,
                          .length = keys[s].length,
                          .out = ha_rows_out_from(out->values, row, (ptrdiff_t)h * d),
                          .log_sum = out->log_sum ? out->log_sum + at : NULL,
                          .largest = out->largest ? out->largest + at : NULL};
        query_tile(a, &own, scratch + per_thread * (size_t)ha_thread_index());
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
