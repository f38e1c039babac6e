/* Linear attention with the normaliser apart (Katharopoulos et al. 2020), in chunks.
 *
 * The state before a chunk is a prefix sum of k^T v over the chunks before it. All chunks' own sums are made in parallel,
 * one short pass adds them up, and then every chunk is independent: three loops, no sequential product.
 * Floor, per head and token: 2 (C features + C dim + 2 features dim) FLOP, C = HA_CHUNK.
 *
 * The lag shifts keys against queries: query row r meets key row r - lag. With `rows` of the sequence minus lag as the
 * shared index, the problem is plain causal attention. */
#include "ops/linear_attention_causal.h"

#include <string.h>

#include "core/thread.h"

enum { C = HA_CHUNK };

typedef struct {
    int seq, from, n; /* rows from .. from + n of the sequence's shared index */
} chunk;

static int shared_rows(const ha_linear_attention *a, const ha_batch *batch, int s)
{
    int n = batch->offset[s + 1] - batch->offset[s] - a->lag;
    return n > 0 ? n : 0;
}

static int count_chunks(const ha_linear_attention *a, const ha_batch *batch)
{
    int n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        n += (shared_rows(a, batch, s) + C - 1) / C;
    return n;
}

size_t ha_linear_causal_states(const ha_linear_attention *a, const ha_batch *batch)
{
    return (size_t)count_chunks(a, batch) * (size_t)a->kv_heads * ha_sum_size(a);
}

static void list_chunks(const ha_linear_attention *a, const ha_batch *batch, chunk *list)
{
    int n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int from = 0, rows = shared_rows(a, batch, s); from < rows; from += C, n++)
            list[n] = (chunk){s, from, rows - from < C ? rows - from : C};
}

/* state [features, dim] then z [features]: += e^T v and the sum of e over n rows */
static void add_outer(const ha_linear_attention *a, int n, const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv,
                      float *state)
{
    const ha_kernels *kernel = ha_kernels_get();
    ha_add_outer(a, n, e, lde, v, ldv, state);
    for (int r = 0; r < n; r++)
        kernel->axpy((size_t)a->features, 1.0f, e + r * lde, state + (ptrdiff_t)a->features * a->dim);
}

/* Turns each sequence's chunk sums into sums of all chunks before (or after) it, starting from `start`. */
static void accumulate(const ha_linear_attention *a, const ha_batch *batch, float *states, float *const *start,
                       int reverse)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t size = (size_t)a->kv_heads * ha_sum_size(a);
    enum { SLICE = 256 };
    int slices = (int)((size + SLICE - 1) / SLICE);
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int i = 0; i < slices; i++) {
        size_t from = (size_t)i * SLICE, n = size - from < SLICE ? size - from : SLICE;
        float *at = states + from, sum[SLICE], own[SLICE];
        for (int s = 0; s < batch->n_seq; s++) {
            int chunks = (shared_rows(a, batch, s) + C - 1) / C;
            memset(sum, 0, sizeof sum);
            if (start && start[s])
                memcpy(sum, start[s] + from, n * sizeof *sum);
            for (int c = 0; c < chunks; c++) {
                float *x = at + size * (size_t)(reverse ? chunks - 1 - c : c);
                memcpy(own, x, n * sizeof *own);
                memcpy(x, sum, n * sizeof *sum);
                kernel->axpy(n, 1.0f, own, sum);
            }
            if (start && start[s])
                memcpy(start[s] + from, sum, n * sizeof *sum);
            at += size * (size_t)chunks;
        }
    }
}

/* p[n,n] = lower triangle (with diagonal) of f e^T; et [features, n] */
static void causal_scores(const ha_linear_attention *a, int n, const float *f, ptrdiff_t ldf, const float *et, float *p)
{
    const ha_kernels *kernel = ha_kernels_get();
    kernel->gemm(n, n, a->features, 1.0f, f, ldf, 1, et, C, 0, p, C);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            p[i * C + j] = 0.0f;
}

ha_status ha_linear_causal_forward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                   const float *const *e, ptrdiff_t lde, const float *const *v, ptrdiff_t ldv,
                                   float *const *state, float *num, ptrdiff_t ldn, float *den, float *states,
                                   ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int chunks = count_chunks(a, batch), kv = a->kv_heads, group = a->heads / kv, F = a->features, D = a->dim;
    chunk *list;
    float *scratch;
    size_t per_thread = (size_t)F * C + C * C;
    HA_PUSH(list, work, (size_t)chunks);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    if (!states)
        HA_PUSH(states, work, (size_t)chunks * (size_t)kv * size);
    list_chunks(a, batch, list);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv; h++) {
            float *own = states + ((size_t)c * (size_t)kv + (size_t)h) * size;
            memset(own, 0, size * sizeof *own);
            add_outer(a, list[c].n, e[list[c].seq] + list[c].from * lde + (ptrdiff_t)h * F, lde,
                      v[list[c].seq] + list[c].from * ldv + (ptrdiff_t)h * D, ldv, own);
        }
    accumulate(a, batch, states, state, 0);
    /* Queries before the lag see nothing. */
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s], end = batch->offset[s + 1] - shared_rows(a, batch, s); r < end; r++) {
            memset(num + r * ldn, 0, (size_t)(a->heads * D) * sizeof *num);
            memset(den + (ptrdiff_t)r * a->heads, 0, (size_t)a->heads * sizeof *den);
        }
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv; h++) {
            const chunk *k = &list[c];
            float *et = scratch + per_thread * (size_t)ha_thread_index(), *p = et + (ptrdiff_t)F * C;
            const float *before = states + ((size_t)c * (size_t)kv + (size_t)h) * size, *z = before + (ptrdiff_t)F * D;
            const float *values = v[k->seq] + k->from * ldv + (ptrdiff_t)h * D;
            ptrdiff_t row = batch->offset[k->seq + 1] - shared_rows(a, batch, k->seq) + k->from;
            kernel->transpose(k->n, F, e[k->seq] + k->from * lde + (ptrdiff_t)h * F, lde, et, C);
            for (int q = h * group; q < (h + 1) * group; q++) {
                const float *query = f + row * ldf + (ptrdiff_t)q * F;
                float *to = num + row * ldn + (ptrdiff_t)q * D;
                causal_scores(a, k->n, query, ldf, et, p);
                kernel->gemm(k->n, D, F, 1.0f, query, ldf, 1, before, D, 0, to, ldn);
                kernel->gemm(k->n, D, k->n, 1.0f, p, C, 1, values, ldv, 1, to, ldn);
                for (int i = 0; i < k->n; i++) {
                    float sum = kernel->dot((size_t)F, query + i * ldf, z);
                    for (int j = 0; j <= i; j++)
                        sum += p[i * C + j];
                    den[(row + i) * a->heads + q] = sum;
                }
            }
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* One chunk and key head. With w_ij = dnum_i . v_j + dden_i (j <= i) and p_ij = f_i . e_j:
 *   df_i = sum_j w_ij e_j + S dnum_i + z dden_i,  de_j = sum_i w_ij f_i + dS v_j + dz,  dv_j = sum_i p_ij dnum_i + dS^T e_j,
 * where S, z are sums over the chunks before and dS, dz sums of f^T dnum and f dden over the chunks after. */
static void chunk_backward(const ha_linear_attention *a, int n, const float *f, ptrdiff_t ldf, const float *e,
                           ptrdiff_t lde, const float *v, ptrdiff_t ldv, const float *before, const float *after,
                           const float *dnum, ptrdiff_t lddn, const float *dden, float *df, ptrdiff_t lddf, float *de,
                           ptrdiff_t ldde, float *dv, ptrdiff_t lddv, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int F = a->features, D = a->dim, group = a->heads / a->kv_heads;
    float *et = scratch, *vt = et + (ptrdiff_t)F * C, *turned = vt + (ptrdiff_t)D * C, *p = turned + (ptrdiff_t)F * D,
          *w = p + C * C;
    const float *z = before + (ptrdiff_t)F * D, *dz = after + (ptrdiff_t)F * D;
    kernel->transpose(n, F, e, lde, et, C);
    kernel->transpose(n, D, v, ldv, vt, C);
    kernel->transpose(F, D, after, D, turned, F);
    kernel->gemm(n, F, D, 1.0f, v, ldv, 1, turned, F, 0, de, ldde);
    kernel->gemm(n, D, F, 1.0f, e, lde, 1, after, D, 0, dv, lddv);
    for (int j = 0; j < n; j++)
        kernel->axpy((size_t)F, 1.0f, dz, de + j * ldde);
    kernel->transpose(F, D, before, D, turned, F);
    for (int g = 0; g < group; g++, f += F, dnum += D, dden++, df += F) {
        causal_scores(a, n, f, ldf, et, p);
        kernel->gemm(n, n, D, 1.0f, dnum, lddn, 1, vt, C, 0, w, C);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                w[i * C + j] = j <= i ? w[i * C + j] + dden[(ptrdiff_t)i * a->heads] : 0.0f;
        kernel->gemm(n, F, D, 1.0f, dnum, lddn, 1, turned, F, 0, df, lddf);
        kernel->gemm(n, F, n, 1.0f, w, C, 1, e, lde, 1, df, lddf);
        for (int i = 0; i < n; i++)
            kernel->axpy((size_t)F, dden[(ptrdiff_t)i * a->heads], z, df + i * lddf);
        kernel->gemm(n, F, n, 1.0f, w, 1, C, f, ldf, 1, de, ldde);
        kernel->gemm(n, D, n, 1.0f, p, 1, C, dnum, lddn, 1, dv, lddv);
    }
}

ha_status ha_linear_causal_backward(const ha_linear_attention *a, const ha_batch *batch, const float *f, ptrdiff_t ldf,
                                    const float *e, ptrdiff_t lde, const float *v, ptrdiff_t ldv, const float *states,
                                    const float *dnum, ptrdiff_t lddn, const float *dden, float *df, ptrdiff_t lddf,
                                    float *de, ptrdiff_t ldde, float *dv, ptrdiff_t lddv, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int chunks = count_chunks(a, batch), kv = a->kv_heads, group = a->heads / kv, F = a->features, D = a->dim;
    chunk *list;
    float *after, *scratch;
    size_t per_thread = (size_t)(F + D) * C + (size_t)F * (size_t)D + 2 * C * C;
    HA_PUSH(list, work, (size_t)chunks);
    HA_PUSH(after, work, (size_t)chunks * (size_t)kv * size);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    list_chunks(a, batch, list);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv; h++) {
            const chunk *k = &list[c];
            float *own = after + ((size_t)c * (size_t)kv + (size_t)h) * size;
            ptrdiff_t row = batch->offset[k->seq] + a->lag + k->from;
            memset(own, 0, size * sizeof *own);
            for (int q = h * group; q < (h + 1) * group; q++) {
                const float *query = f + row * ldf + (ptrdiff_t)q * F;
                ha_add_outer(a, k->n, query, ldf, dnum + row * lddn + (ptrdiff_t)q * D, lddn, own);
                for (int i = 0; i < k->n; i++)
                    kernel->axpy((size_t)F, dden[(row + i) * a->heads + q], query + i * ldf, own + (ptrdiff_t)F * D);
            }
        }
    accumulate(a, batch, after, NULL, 1);
    for (int s = 0; s < batch->n_seq; s++) {
        int start = batch->offset[s], end = batch->offset[s + 1], n = shared_rows(a, batch, s);
        for (int r = start; r < end - n; r++)
            memset(df + r * lddf, 0, (size_t)(a->heads * F) * sizeof *df);
        for (int r = start + n; r < end; r++) {
            memset(de + r * ldde, 0, (size_t)(kv * F) * sizeof *de);
            memset(dv + r * lddv, 0, (size_t)(kv * D) * sizeof *dv);
        }
    }
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv; h++) {
            const chunk *k = &list[c];
            size_t at = ((size_t)c * (size_t)kv + (size_t)h) * size;
            ptrdiff_t key = batch->offset[k->seq] + k->from, query = key + a->lag, q = (ptrdiff_t)h * group;
            chunk_backward(a, k->n, f + query * ldf + q * F, ldf, e + key * lde + (ptrdiff_t)h * F, lde,
                           v + key * ldv + (ptrdiff_t)h * D, ldv, states + at, after + at, dnum + query * lddn + q * D,
                           lddn, dden + query * a->heads + q, df + query * lddf + q * F, lddf,
                           de + key * ldde + (ptrdiff_t)h * F, ldde, dv + key * lddv + (ptrdiff_t)h * D, lddv,
                           scratch + per_thread * (size_t)ha_thread_index());
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
