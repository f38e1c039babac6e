/* Backward pass of tiled softmax attention: probabilities are made again from the saved log-sum-exp (Dao et al. 2022).
 *
 * Floor: 10 dim FLOP and one exp for each visible pair and head. A task is one (sequence, head): dq is its own, dk and dv
 * go to a buffer of the head, and the heads of a group are added in order afterwards. */
#include <string.h>

#include "core/thread.h"
#include "ops/attention_tile.h"

typedef struct {
    const float *q, *k, *v, *kt, *vt, *lse, *delta, *max, *dmax, *dout;
    float *dq, *dk, *dv; /* dk, dv [length, dim] */
    ptrdiff_t ld, lddo, ldd;
    int length;
} problem;

/* A gradient to the row's largest logit goes to the first key that has it; returns its column or -1. */
static int column_of_max(const float *s, int n, float max)
{
    for (int j = 0; j < n; j++)
        if (s[j] == max)
            return j;
    return -1;
}

static void query_tile(const ha_attention *a, const problem *p, int first, int m, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int d = a->dim, heads = a->heads;
    float *scaled = scratch, *dq = scaled + QUERY_TILE * d, *s = dq + QUERY_TILE * d, *ds = s + QUERY_TILE * KEY_TILE;
    float lse[QUERY_TILE], delta[QUERY_TILE];
    int column[QUERY_TILE], found[QUERY_TILE] = {0};
    const float *dout = p->dout + first * p->lddo;
    for (int r = 0; r < m; r++) {
        for (int c = 0; c < d; c++)
            scaled[r * d + c] = a->scale * p->q[(first + r) * p->ld + c];
        lse[r] = p->lse[(ptrdiff_t)(first + r) * heads];
        delta[r] = p->delta[(ptrdiff_t)(first + r) * heads];
    }
    memset(dq, 0, sizeof *dq * (size_t)(m * d));
    key_range range = keys_of(a, first, first + m - 1, p->length);
    for (int end = 0, start; (start = next_tile(&range, end, &end)) >= 0;) {
        int n = end - start;
        kernel->gemm(m, n, d, 1.0f, scaled, d, 1, p->kt + start, p->length, 0, s, KEY_TILE);
        mask_tile(a, first, m, start, end, s, KEY_TILE);
        for (int r = 0; p->dmax && r < m; r++) {
            /* a single key: the forward pass may have taken the decode path, whose bits are others */
            column[r] = p->length == 1 ? 0
                        : found[r]     ? -1
                                       : column_of_max(s + r * KEY_TILE, n, p->max[(ptrdiff_t)(first + r) * heads]);
            found[r] |= column[r] >= 0;
        }
        kernel->gemm(m, n, d, 1.0f, dout, p->lddo, 1, p->vt + start, p->length, 0, ds, KEY_TILE);
        kernel->softmax_tile_backward(m, n, s, KEY_TILE, ds, KEY_TILE, lse, delta);
        for (int r = 0; p->dmax && r < m; r++)
            if (column[r] >= 0)
                ds[r * KEY_TILE + column[r]] += p->dmax[(ptrdiff_t)(first + r) * heads];
        kernel->gemm(n, d, m, 1.0f, s, 1, KEY_TILE, dout, p->lddo, 1, p->dv + (ptrdiff_t)start * d, d);
        kernel->gemm(n, d, m, 1.0f, ds, 1, KEY_TILE, scaled, d, 1, p->dk + (ptrdiff_t)start * d, d);
        kernel->gemm(m, d, n, a->scale, ds, KEY_TILE, 1, p->k + start * p->ld, p->ld, 1, dq, d);
    }
    for (int r = 0; r < m; r++)
        memcpy(p->dq + (first + r) * p->ldd, dq + (ptrdiff_t)r * d, sizeof *dq * (size_t)d);
}

ha_status ha_attention_backward(const ha_attention *a, const ha_batch *batch, const float *q, const float *k,
                                const float *v, ptrdiff_t ld, const float *lse, const float *delta, const float *max,
                                const float *dmax, const float *dout, ptrdiff_t lddo, float *dq, float *dk, float *dv,
                                ptrdiff_t ldd, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), rows = (size_t)batch->rows;
    const int d = a->dim, kv = a->kv_heads, heads = a->heads, group = heads / kv;
    size_t per_thread = (size_t)(2 * QUERY_TILE * d + 2 * QUERY_TILE * KEY_TILE);
    float *kt, *vt, *dk_head, *dv_head, *scratch;
    HA_PUSH(kt, work, rows * (size_t)(kv * d)); /* of a sequence: [kv_heads, dim, length] */
    HA_PUSH(vt, work, rows * (size_t)(kv * d));
    HA_PUSH(dk_head, work, rows * (size_t)(heads * d)); /* of a sequence: [heads, length, dim] */
    HA_PUSH(dv_head, work, rows * (size_t)(heads * d));
    HA_PUSH(scratch, work, per_thread * (size_t)threads);

#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + per_thread * (size_t)ha_thread_index();
#pragma omp for schedule(static) collapse(2)
        for (int s = 0; s < batch->n_seq; s++)
            for (int h = 0; h < kv; h++) {
                int row = batch->offset[s], length = batch->offset[s + 1] - row;
                ptrdiff_t from = row * ld + (ptrdiff_t)h * d, to = (ptrdiff_t)row * kv * d + (ptrdiff_t)h * d * length;
                kernel->transpose(length, d, k + from, ld, kt + to, length);
                kernel->transpose(length, d, v + from, ld, vt + to, length);
            }
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int s = 0; s < batch->n_seq; s++)
            for (int h = 0; h < heads; h++) {
                ptrdiff_t row = batch->offset[s], length = batch->offset[s + 1] - row, g = h / group;
                ptrdiff_t t = row * kv * d + g * d * length, per_head = row * heads * d + h * length * d;
                problem p = {.q = q + row * ld + (ptrdiff_t)h * d,
                             .k = k + row * ld + g * d,
                             .v = v + row * ld + g * d,
                             .kt = kt + t,
                             .vt = vt + t,
                             .lse = lse + row * heads + h,
                             .delta = delta + row * heads + h,
                             .max = max ? max + row * heads + h : NULL,
                             .dmax = dmax ? dmax + row * heads + h : NULL,
                             .dout = dout + row * lddo + (ptrdiff_t)h * d,
                             .dq = dq + row * ldd + (ptrdiff_t)h * d,
                             .dk = dk_head + per_head,
                             .dv = dv_head + per_head,
                             .ld = ld,
                             .lddo = lddo,
                             .ldd = ldd,
                             .length = (int)length};
                memset(p.dk, 0, sizeof *p.dk * (size_t)(length * d));
                memset(p.dv, 0, sizeof *p.dv * (size_t)(length * d));
                for (int first = 0; first < length; first += QUERY_TILE)
                    query_tile(a, &p, first, (int)length - first < QUERY_TILE ? (int)length - first : QUERY_TILE, own);
            }
#pragma omp for schedule(static)
        for (int s = 0; s < batch->n_seq; s++) {
            ptrdiff_t row = batch->offset[s], length = batch->offset[s + 1] - row;
            for (int g = 0; g < kv; g++)
                for (ptrdiff_t r = 0; r < length; r++) {
                    float *to_k = dk + (row + r) * ldd + (ptrdiff_t)g * d,
                          *to_v = dv + (row + r) * ldd + (ptrdiff_t)g * d;
                    for (int i = 0; i < group; i++) {
                        ptrdiff_t at = row * heads * d + ((ptrdiff_t)(g * group + i) * length + r) * d;
                        if (i == 0) {
                            memcpy(to_k, dk_head + at, sizeof *dk * (size_t)d);
                            memcpy(to_v, dv_head + at, sizeof *dv * (size_t)d);
                        } else {
                            kernel->axpy((size_t)d, 1.0f, dk_head + at, to_k);
                            kernel->axpy((size_t)d, 1.0f, dv_head + at, to_v);
                        }
                    }
                }
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
