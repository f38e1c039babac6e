/* Linear attention over both sides of a query.
 *
 * Without a lag a sequence has one sum S = e^T v, z = sum of e, and each query one product with it: no scores at all.
 * Floor, per head and token: 4 features dim FLOP. With a lag what lies before and what lies behind are summed apart, by the
 * causal op on the batch and its mirror image: the whole sum minus the near keys would cancel where near keys weigh most. */
#include "ops/linear_attention_both.h"

#include <string.h>

#include "core/thread.h"
#include "ops/linear_attention_causal.h"

enum { C = HA_CHUNK, PIECE = 8 * C /* rows that one task sums */ };

typedef struct {
    int seq, from, n; /* rows from .. from + n of the batch */
} piece;

static ha_status list_pieces(const ha_batch *batch, int size, piece **list, int *count, ha_arena *work)
{
    HA_PUSH(*list, work, (size_t)(batch->rows / size + batch->n_seq));
    *count = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int from = batch->offset[s], end = batch->offset[s + 1]; from < end; from += size)
            (*list)[(*count)++] = (piece){s, from, end - from < size ? end - from : size};
    return HA_OK;
}

/* One operand of a sum over rows: e [rows, queries heads, features], v [rows, heads, dim], and a weight of e in z, or 1. */
typedef struct {
    const float *e, *v, *weight;
    ptrdiff_t lde, ldv;
} summed;

/* sums [n_seq, kv_heads, size]: pieces apart, then added in their order. in [n_seq]: operands of each sequence, whose `group`
 * heads belong to a key head. */
static ha_status sum_rows(const ha_linear_attention *a, const ha_batch *batch, const summed *in, int group, float *sums,
                          ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int kv = a->kv_heads, F = a->features, D = a->dim;
    piece *list;
    float *partial;
    int pieces;
    HA_TRY(list_pieces(batch, PIECE, &list, &pieces, work));
    HA_PUSH(partial, work, (size_t)(pieces * kv) * size);
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int p = 0; p < pieces; p++)
        for (int h = 0; h < kv; h++) {
            const summed *x = &in[list[p].seq];
            float *own = partial + (size_t)(p * kv + h) * size, *z = own + (ptrdiff_t)F * D;
            memset(own, 0, size * sizeof *own);
            for (int at = 0; at < list[p].n; at += C)
                for (int q = h * group; q < (h + 1) * group; q++) {
                    const int n = list[p].n - at < C ? list[p].n - at : C;
                    const ptrdiff_t row = list[p].from - batch->offset[list[p].seq] + at;
                    const float *e = x->e + row * x->lde + (ptrdiff_t)q * F;
                    ha_add_outer(a, n, e, x->lde, x->v + row * x->ldv + (ptrdiff_t)q * D, x->ldv, own);
                    for (ptrdiff_t r = 0; r < n; r++)
                        kernel->axpy((size_t)F, x->weight ? x->weight[(row + r) * a->heads + q] : 1.0f, e + r * x->lde,
                                     z);
                }
        }
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < kv; h++) {
            float *to = sums + (size_t)(s * kv + h) * size;
            memset(to, 0, size * sizeof *to);
            for (int p = 0; p < pieces; p++)
                if (list[p].seq == s)
                    kernel->axpy(size, 1.0f, partial + (size_t)(p * kv + h) * size, to);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_linear_all_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv, float *num,
                                ptrdiff_t ldn, float *den, float *sums, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int kv = a->kv_heads, group = a->heads / kv, F = a->features, D = a->dim;
    summed *keys;
    piece *list;
    int pieces;
    HA_PUSH(keys, work, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++)
        keys[s] = (summed){e[s], v[s], NULL, lde, ldv};
    if (!sums)
        HA_PUSH(sums, work, (size_t)(batch->n_seq * kv) * size);
    HA_TRY(sum_rows(a, batch, keys, 1, sums, work));
    HA_TRY(list_pieces(batch, C, &list, &pieces, work));
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int p = 0; p < pieces; p++)
        for (int q = 0; q < a->heads; q++) {
            const float *own = sums + (size_t)(list[p].seq * kv + q / group) * size, *z = own + (ptrdiff_t)F * D;
            const ptrdiff_t row = list[p].from;
            const float *query = f + row * ldf + (ptrdiff_t)q * F;
            kernel->gemm(list[p].n, D, F, 1.0f, query, ldf, 1, own, D, 0, num + row * ldn + (ptrdiff_t)q * D, ldn);
            for (ptrdiff_t r = 0; r < list[p].n; r++)
                den[(row + r) * a->heads + q] = kernel->dot((size_t)F, query + r * ldf, z);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* With dS, dz the sums of f^T dnum and f dden over the sequence: df = S dnum + z dden, de = dS v + dz, dv = dS^T e. */
ha_status ha_linear_all_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                 const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv, const float *sums,
                                 const float *dnum, ptrdiff_t lddn, const float *dden, float *df, ptrdiff_t lddf,
                                 float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int kv = a->kv_heads, group = a->heads / kv, F = a->features, D = a->dim, threads = ha_threads();
    summed *queries;
    float *dsums, *scratch;
    piece *list;
    int pieces;
    HA_PUSH(queries, work, (size_t)batch->n_seq);
    HA_PUSH(dsums, work, (size_t)(batch->n_seq * kv) * size);
    HA_PUSH(scratch, work, (size_t)threads * (size_t)(F * D));
    for (int s = 0; s < batch->n_seq; s++) {
        const ptrdiff_t row = batch->offset[s];
        queries[s] = (summed){f + row * ldf, dnum + row * lddn, dden + row * a->heads, ldf, lddn};
    }
    HA_TRY(sum_rows(a, batch, queries, group, dsums, work));
    HA_TRY(list_pieces(batch, C, &list, &pieces, work));
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int p = 0; p < pieces; p++)
        for (int h = 0; h < kv; h++) {
            float *turned = scratch + (size_t)ha_thread_index() * (size_t)(F * D);
            const size_t at = (size_t)(list[p].seq * kv + h) * size;
            const float *own = sums + at, *z = own + (ptrdiff_t)F * D, *after = dsums + at,
                        *dz = after + (ptrdiff_t)F * D;
            const ptrdiff_t row = list[p].from, n = list[p].n;
            float *to = de + row * ldde + (ptrdiff_t)h * F;
            kernel->transpose(F, D, after, D, turned, F);
            kernel->gemm((int)n, F, D, 1.0f, v + row * ldv + (ptrdiff_t)h * D, ldv, 1, turned, F, 0, to, ldde);
            kernel->gemm((int)n, D, F, 1.0f, e + row * lde + (ptrdiff_t)h * F, lde, 1, after, D, 0,
                         dv + row * lddv + (ptrdiff_t)h * D, lddv);
            for (ptrdiff_t r = 0; r < n; r++)
                kernel->axpy((size_t)F, 1.0f, dz, to + r * ldde);
            kernel->transpose(F, D, own, D, turned, F);
            for (int q = h * group; q < (h + 1) * group; q++) {
                to = df + row * lddf + (ptrdiff_t)q * F;
                kernel->gemm((int)n, F, D, 1.0f, dnum + row * lddn + (ptrdiff_t)q * D, lddn, 1, turned, F, 0, to, lddf);
                for (ptrdiff_t r = 0; r < n; r++)
                    kernel->axpy((size_t)F, dden[(row + r) * a->heads + q], z, to + r * lddf);
            }
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* The operands of the causal op on both directions. */
typedef struct {
    ha_linear_attention a;
    ha_batch batch;
    float *f, *e, *v;
    int wf, we, wv, wn; /* widths of f, e, v and num */
} mirrored;

static ha_status mirrored_shape(const ha_linear_attention *a, const ha_batch *batch, mirrored *m, ha_arena *work)
{
    *m = (mirrored){.a = *a, .wf = a->heads * a->features, .we = a->kv_heads * a->features};
    m->wv = a->kv_heads * a->dim;
    m->wn = a->heads * a->dim;
    m->a.bidirectional = 0;
    const size_t rows = 2 * (size_t)batch->rows;
    HA_PUSH(m->f, work, rows * (size_t)m->wf);
    HA_PUSH(m->e, work, rows * (size_t)m->we);
    HA_PUSH(m->v, work, rows * (size_t)m->wv);
    return ha_mirror_batch(batch, work, &m->batch);
}

ha_status ha_linear_mirrored_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                     const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv,
                                     float *num, ptrdiff_t ldn, float *den, float *states, ha_arena *work)
{
    const size_t mark = ha_arena_mark(work);
    const int rows = batch->rows;
    mirrored m;
    const float **keys, **values;
    float *sums, *mass;
    HA_TRY(mirrored_shape(a, batch, &m, work));
    HA_PUSH(keys, work, (size_t)m.batch.n_seq);
    HA_PUSH(values, work, (size_t)m.batch.n_seq);
    HA_PUSH(sums, work, 2 * (size_t)rows * (size_t)m.wn);
    HA_PUSH(mass, work, 2 * (size_t)rows * (size_t)a->heads);
    ha_mirror(rows, m.wf, f, ldf, m.f);
    for (int s = 0; s < batch->n_seq; s++) /* keys of a sequence lie where its pointer says */
        for (ptrdiff_t r = batch->offset[s], i = 0; r < batch->offset[s + 1]; r++, i++) {
            memcpy(m.e + r * m.we, e[s] + i * lde, (size_t)m.we * sizeof *m.e);
            memcpy(m.v + r * m.wv, v[s] + i * ldv, (size_t)m.wv * sizeof *m.v);
        }
    ha_mirror(rows, m.we, m.e, m.we, m.e);
    ha_mirror(rows, m.wv, m.v, m.wv, m.v);
    for (int s = 0; s < m.batch.n_seq; s++) {
        keys[s] = m.e + (ptrdiff_t)m.batch.offset[s] * m.we;
        values[s] = m.v + (ptrdiff_t)m.batch.offset[s] * m.wv;
    }
    HA_TRY(ha_linear_causal_forward(&m.a, &m.batch, m.f, m.wf, keys, m.we, values, m.wv, NULL, sums, m.wn, mass, states,
                                    work));
    ha_fold(rows, m.wn, sums, num, ldn);
    ha_fold(rows, a->heads, mass, den, a->heads);
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_linear_mirrored_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f,
                                      ptrdiff_t ldf, const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv,
                                      const float *states, const float *dnum, ptrdiff_t lddn, const float *dden,
                                      float *df, ptrdiff_t lddf, float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv,
                                      ha_arena *work)
{
    const size_t mark = ha_arena_mark(work);
    const int rows = batch->rows;
    mirrored m, d;
    float *dsums, *dmass;
    HA_TRY(mirrored_shape(a, batch, &m, work));
    HA_TRY(mirrored_shape(a, batch, &d, work));
    HA_PUSH(dsums, work, 2 * (size_t)rows * (size_t)m.wn);
    HA_PUSH(dmass, work, 2 * (size_t)rows * (size_t)a->heads);
    ha_mirror(rows, m.wf, f, ldf, m.f);
    ha_mirror(rows, m.we, e, lde, m.e);
    ha_mirror(rows, m.wv, v, ldv, m.v);
    ha_mirror(rows, m.wn, dnum, lddn, dsums);
    ha_mirror(rows, a->heads, dden, a->heads, dmass);
    HA_TRY(ha_linear_causal_backward(&m.a, &m.batch, m.f, m.wf, m.e, m.we, m.v, m.wv, states, dsums, m.wn, dmass, d.f,
                                     m.wf, d.e, m.we, d.v, m.wv, work));
    ha_fold(rows, m.wf, d.f, df, lddf);
    ha_fold(rows, m.we, d.e, de, ldde);
    ha_fold(rows, m.wv, d.v, dv, lddv);
    ha_arena_release(work, mark);
    return HA_OK;
}
