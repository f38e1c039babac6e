/* Backward pass of tiled softmax attention: probabilities are made again from the saved log-sum-exp
 * (Dao et al. 2022).
 *
 * Floor: 10 dim FLOP and one exp for each visible pair and head. A task is one half of the queries
 * of one head: dq is its own, dk and dv go to a buffer of the task, and a key head's buffers are
 * added in order afterwards. */
#include <string.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

/* Padded, so that a column of scores does not fall into a few sets of L1. */
enum { LDS = KEY_TILE + 8 };

/* One sequence and head. */
typedef struct {
    ha_rows queries, dvalues;                        /* [., dim] */
    const float *keys, *keys_turned, *values_turned; /* packed rows [length, dim], packed columns of keys and values */
    const float *log_sum, *delta, *largest, *dlargest; /* [., heads] */
    ha_rows_out dqueries;                              /* [., dim] */
    float *dkeys, *dvalues_of_keys;                    /* [length, dim] */
    int length;                                        /* keys */
} problem;

/* A gradient to the row's largest logit goes to the first key that has it; returns its column or
 * -1. */
static int column_of_max(const float *s, int n, float max)
{
    for (int j = 0; j < n; j++)
        if (s[j] == max)
            return j;
    return -1;
}

/* Queries first .. first + m of a head: dqueries, and what they add to dkeys and dvalues. */
static void query_tile(const ha_attention *a, const problem *p, int first, int m, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int d = a->dim, heads = a->heads;
    float *scaled = scratch, *dq = scaled + QUERY_TILE * d, *s = dq + QUERY_TILE * d, *ds = s + QUERY_TILE * LDS;
    float lse[QUERY_TILE], delta[QUERY_TILE];
    int column[QUERY_TILE], found[QUERY_TILE] = {0};
    const float *dout = p->dvalues.at + first * p->dvalues.stride;
    for (int r = 0; r < m; r++) {
        for (int c = 0; c < d; c++)
            scaled[r * d + c] = a->scale * p->queries.at[(first + r) * p->queries.stride + c];
        lse[r] = p->log_sum[(ptrdiff_t)(first + r) * heads];
        delta[r] = p->delta[(ptrdiff_t)(first + r) * heads];
    }
    memset(dq, 0, sizeof *dq * (size_t)(m * d));
    key_range range = keys_of(a, first, first + m - 1, p->length);
    for (int end = 0, start; (start = next_tile(&range, end, &end)) >= 0;) {
        int n = end - start;
        for (int r = 0, rows; r < m; r += rows) { /* all at once, but for the tile on the diagonal */
            rows = rows_alike(a, first, r, m, start, n);
            int see = seen(a, first + r + rows - 1, start, n);
            kernel->gemm(ha_matmul_of(rows, see, d, 0), ha_view_rows(ha_rows_of(scaled + (ptrdiff_t)r * d, d)),
                         ha_rows_of(packed_column(p->keys_turned, start, d), KEY_TILE), ha_rows_to(s + r * LDS, LDS));
            kernel->gemm(ha_matmul_of(rows, see, d, 0),
                         ha_view_rows(ha_rows_of(dout + r * p->dvalues.stride, p->dvalues.stride)),
                         ha_rows_of(packed_column(p->values_turned, start, d), KEY_TILE),
                         ha_rows_to(ds + r * LDS, LDS));
            for (int i = r; i < r + rows; i++) /* what is not computed is hidden below, and must be finite */
                memset(ds + i * LDS + see, 0, sizeof *ds * (size_t)(n - see));
        }
        mask_tile(a, first, m, start, end, s, LDS);
        for (int r = 0; p->dlargest && r < m; r++) {
            /* a single key: the forward pass may have taken the decode path, whose bits are
             * others */
            column[r] = p->length == 1 ? 0
                        : found[r]     ? -1
                                       : column_of_max(s + r * LDS, n, p->largest[(ptrdiff_t)(first + r) * heads]);
            found[r] |= column[r] >= 0;
        }
        kernel->softmax_tile_backward(m, n, s, LDS, ds, LDS, lse, delta);
        for (int r = 0; p->dlargest && r < m; r++)
            if (column[r] >= 0)
                ds[r * LDS + column[r]] += p->dlargest[(ptrdiff_t)(first + r) * heads];
        for (int r = 0, rows; r < m; r += rows) {
            rows = rows_alike(a, first, r, m, start, n);
            kernel->gemm((ha_matmul){rows, d, seen(a, first + r + rows - 1, start, n), a->scale, 1},
                         ha_view_rows(ha_rows_of(ds + r * LDS, LDS)), ha_rows_of(packed_row(p->keys, start, d), d),
                         ha_rows_to(dq + (ptrdiff_t)r * d, d));
        }
        int whole = rows_alike(a, first, 0, m, start, n) == m;
        for (int j = 0, keys; j < n; j += keys) { /* queries before r do not see these keys */
            keys = whole || n - j < ROWS ? n - j : ROWS;
            int r = whole || start + j < first ? 0 : start + j - first;
            if (r >= m)
                break;
            kernel->gemm(ha_matmul_of(keys, d, m - r, 1), ha_view_transposed(ha_rows_of(s + r * LDS + j, LDS)),
                         ha_rows_of(dout + r * p->dvalues.stride, p->dvalues.stride),
                         ha_rows_to(p->dvalues_of_keys + (ptrdiff_t)(start + j) * d, d));
            kernel->gemm(ha_matmul_of(keys, d, m - r, 1), ha_view_transposed(ha_rows_of(ds + r * LDS + j, LDS)),
                         ha_rows_of(scaled + (ptrdiff_t)r * d, d),
                         ha_rows_to(p->dkeys + (ptrdiff_t)(start + j) * d, d));
        }
    }
    for (int r = 0; r < m; r++)
        memcpy(p->dqueries.at + (first + r) * p->dqueries.stride, dq + (ptrdiff_t)r * d, sizeof *dq * (size_t)d);
}

/* Where the second task of a sequence begins: the halves see about as many keys, and neither
 * depends on the threads. */
static int middle(const ha_attention *a, int length)
{
    int tiles = (length + QUERY_TILE - 1) / QUERY_TILE;
    return (a->causal && !a->window ? (tiles * 181 + 255) / 256 : (tiles + 1) / 2) * QUERY_TILE; /* 181/256 = 2^-1/2 */
}

ha_status ha_attention_backward(const ha_attention *a, const ha_batch *batch, const ha_attention_saved *saved,
                                const ha_attention_upstream *upstream, const ha_attention_gradient *gradient,
                                ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int32_t *key_offset = saved->key_offset;
    const int threads = ha_threads();
    const size_t mark = ha_arena_mark(work), n_keys = (size_t)key_offset[batch->n_seq];
    const int d = a->dim, kv = a->kv_heads, heads = a->heads, group = heads / kv;
    size_t per_thread = (size_t)(2 * QUERY_TILE * d + 2 * QUERY_TILE * LDS), each_task = n_keys * (size_t)d;
    float **packed, *dk_task, *dv_task, *scratch;
    HA_PUSH(packed, work, (size_t)batch->n_seq); /* of each key head: k, packed columns of k, packed columns of v */
    for (int s = 0; s < batch->n_seq; s++)
        HA_PUSH(packed[s], work, 3 * (size_t)kv * packed_floats(key_offset[s + 1] - key_offset[s], d));
    HA_PUSH(dk_task, work, 2 * (size_t)heads * each_task); /* [heads, 2, keys, dim] */
    HA_PUSH(dv_task, work, 2 * (size_t)heads * each_task);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);

#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < kv; h++) {
            int row = key_offset[s], length = key_offset[s + 1] - row;
            size_t each = packed_floats(length, d);
            float *to = packed[s] + 3 * (size_t)h * each;
            const ha_rows keys = ha_rows_from(saved->keys, row, (ptrdiff_t)h * d);
            const ha_rows values = ha_rows_from(saved->values, row, (ptrdiff_t)h * d);
            pack_rows(length, d, keys.at, keys.stride, to);
            pack_columns(length, d, keys.at, keys.stride, to + each);
            pack_columns(length, d, values.at, values.stride, to + 2 * each);
        }
#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int task = 0; task < 2 * heads; task++) {
            float *own = scratch + per_thread * (size_t)ha_thread_index();
            int h = task / 2, half = task % 2;
            ptrdiff_t row = batch->offset[s], queries = batch->offset[s + 1] - row;
            const ptrdiff_t key = key_offset[s], length = key_offset[s + 1] - key;
            size_t each = packed_floats((int)length, d), own_rows = (size_t)task * each_task + (size_t)(key * d);
            const float *keys = packed[s] + 3 * (size_t)(h / group) * each;
            const ptrdiff_t at = row * heads + h;
            const problem p = {.queries = ha_rows_from(saved->queries, row, (ptrdiff_t)h * d),
                               .dvalues = ha_rows_from(upstream->dvalues, row, (ptrdiff_t)h * d),
                               .keys = keys,
                               .keys_turned = keys + each,
                               .values_turned = keys + 2 * each,
                               .log_sum = saved->log_sum + at,
                               .delta = upstream->delta + at,
                               .largest = upstream->dlargest ? saved->largest + at : NULL,
                               .dlargest = upstream->dlargest ? upstream->dlargest + at : NULL,
                               .dqueries = ha_rows_out_from(gradient->queries, row, (ptrdiff_t)h * d),
                               .dkeys = dk_task + own_rows,
                               .dvalues_of_keys = dv_task + own_rows,
                               .length = (int)length};
            memset(p.dkeys, 0, sizeof *p.dkeys * (size_t)(length * d));
            memset(p.dvalues_of_keys, 0, sizeof *p.dkeys * (size_t)(length * d));
            int cut = middle(a, (int)queries), end = half ? (int)queries : cut;
            for (int first = half ? cut : 0; first < end && first < queries; first += QUERY_TILE)
                query_tile(a, &p, first, (int)queries - first < QUERY_TILE ? (int)queries - first : QUERY_TILE, own);
        }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < n_keys; r++)
        for (int g = 0; g < kv; g++) {
            float *to_k = ha_rows_out_from(gradient->keys, (ptrdiff_t)r, (ptrdiff_t)g * d).at,
                  *to_v = ha_rows_out_from(gradient->values, (ptrdiff_t)r, (ptrdiff_t)g * d).at;
            for (int task = 2 * g * group; task < 2 * (g + 1) * group; task++) {
                size_t at = (size_t)task * each_task + r * (size_t)d;
                if (task == 2 * g * group) {
                    memcpy(to_k, dk_task + at, sizeof *to_k * (size_t)d);
                    memcpy(to_v, dv_task + at, sizeof *to_v * (size_t)d);
                } else {
                    kernel->axpy((size_t)d, 1.0f, dk_task + at, to_k);
                    kernel->axpy((size_t)d, 1.0f, dv_task + at, to_v);
                }
            }
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
