/* Linear attention with the normaliser apart (Katharopoulos et al. 2020), in chunks.
 *
 * The state before a chunk is a prefix sum of k^T v over the chunks before it. All chunks' own sums
 * are made in parallel, one short pass adds them up, and then every chunk is independent: three
 * loops, no sequential product. Floor, per head and token: 2 (C features + C dim + 2 features dim)
 * FLOP, C = HA_CHUNK.
 *
 * The lag shifts keys against queries: query row r meets key row r - lag. With `rows` of the
 * sequence minus lag as the shared index, the problem is plain causal attention. */
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

/* Chunks of all sequences. */
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

/* list [count_chunks], in order. */
static void list_chunks(const ha_linear_attention *a, const ha_batch *batch, chunk *list)
{
    int n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int from = 0, rows = shared_rows(a, batch, s); from < rows; from += C, n++)
            list[n] = (chunk){s, from, rows - from < C ? rows - from : C};
}

/* state [features, dim], then z [features]: += keys^T values and the sum of keys over n rows of one
 * head */
static void add_keys(const ha_linear_attention *a, int n, ha_rows keys, ha_rows values, float *state)
{
    const ha_kernels *kernel = ha_kernels_get();
    ha_add_outer(a, n, keys, values, state);
    for (int r = 0; r < n; r++)
        kernel->axpy((size_t)a->features, 1.0f, keys.at + r * keys.stride, state + (ptrdiff_t)a->features * a->dim);
}

/* Turns each sequence's chunk sums into sums of all chunks before (or after) it, starting from
 * `start`. */
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

/* scores [n, HA_CHUNK] = lower triangle (with diagonal) of phi(q) phi(k)^T of one head; queries [n,
 * features], keys_turned [features, HA_CHUNK] */
static void causal_scores(const ha_linear_attention *a, int n, ha_rows queries, const float *keys_turned, float *scores)
{
    const ha_kernels *kernel = ha_kernels_get();
    kernel->gemm(ha_matmul_of(n, n, a->features, 0), ha_view_rows(queries), ha_rows_of(keys_turned, C),
                 ha_rows_to(scores, C));
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            scores[i * C + j] = 0.0f;
}

/* Queries before the lag see nothing. */
static void clear_before_lag(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_out *out)
{
    const ha_rows_out numerator = out->numerator;
    for (int s = 0; s < batch->n_seq; s++)
        for (int r = batch->offset[s], end = batch->offset[s + 1] - shared_rows(a, batch, s); r < end; r++) {
            memset(numerator.at + r * numerator.stride, 0, (size_t)(a->heads * a->dim) * sizeof *numerator.at);
            memset(out->denominator + (ptrdiff_t)r * a->heads, 0, (size_t)a->heads * sizeof *out->denominator);
        }
}

/* One chunk and key head. `before` [features, dim + 1] is the sum over the chunks before it;
 * scratch [features + HA_CHUNK, HA_CHUNK]. */
static void chunk_forward(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                          const ha_linear_attention_out *out, const chunk *chunk, int kv_head, const float *before,
                          float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int F = a->features, D = a->dim, n = chunk->n, group = a->heads / a->kv_heads;
    const ha_rows keys = ha_rows_from(in->keys[chunk->seq], chunk->from, (ptrdiff_t)kv_head * F);
    const ha_rows values = ha_rows_from(in->values[chunk->seq], chunk->from, (ptrdiff_t)kv_head * D);
    const ptrdiff_t row = batch->offset[chunk->seq + 1] - shared_rows(a, batch, chunk->seq) + chunk->from;
    float *keys_turned = scratch, *scores = keys_turned + (ptrdiff_t)F * C;
    const float *key_sum = before + (ptrdiff_t)F * D;
    kernel->transpose(n, F, keys.at, keys.stride, keys_turned, C);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const ha_rows queries = ha_rows_from(in->queries, row, (ptrdiff_t)head * F);
        const ha_rows_out to = ha_rows_out_from(out->numerator, row, (ptrdiff_t)head * D);
        causal_scores(a, n, queries, keys_turned, scores);
        kernel->gemm(ha_matmul_of(n, D, F, 0), ha_view_rows(queries), ha_rows_of(before, D), to);
        kernel->gemm(ha_matmul_of(n, D, n, 1), ha_view_rows(ha_rows_of(scores, C)), values, to);
        for (int i = 0; i < n; i++) {
            float sum = kernel->dot((size_t)F, queries.at + i * queries.stride, key_sum);
            for (int j = 0; j <= i; j++)
                sum += scores[i * C + j];
            out->denominator[(row + i) * a->heads + head] = sum;
        }
    }
}

ha_status ha_linear_causal_forward(const ha_linear_attention *a, const ha_batch *batch,
                                   const ha_linear_attention_in *in, float *const *state,
                                   const ha_linear_attention_out *out, float *saved, ha_arena *work)
{
    const int threads = ha_threads();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int chunks = count_chunks(a, batch), kv_heads = a->kv_heads, F = a->features, D = a->dim;
    chunk *list;
    float *scratch;
    const size_t per_thread = (size_t)F * C + C * C;
    HA_PUSH(list, work, (size_t)chunks);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    if (!saved)
        HA_PUSH(saved, work, (size_t)chunks * (size_t)kv_heads * size);
    list_chunks(a, batch, list);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv_heads; h++) {
            float *own = saved + ((size_t)c * (size_t)kv_heads + (size_t)h) * size;
            memset(own, 0, size * sizeof *own);
            add_keys(a, list[c].n, ha_rows_from(in->keys[list[c].seq], list[c].from, (ptrdiff_t)h * F),
                     ha_rows_from(in->values[list[c].seq], list[c].from, (ptrdiff_t)h * D), own);
        }
    accumulate(a, batch, saved, state, 0);
    clear_before_lag(a, batch, out);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv_heads; h++)
            chunk_forward(a, batch, in, out, &list[c], h, saved + ((size_t)c * (size_t)kv_heads + (size_t)h) * size,
                          scratch + per_thread * (size_t)ha_thread_index());
    ha_arena_release(work, mark);
    return HA_OK;
}

/* The operands and gradients of one chunk and key head, from the first of its query heads on. */
typedef struct {
    ha_rows queries, keys, values, dnumerator; /* [n, features], [n, features], [n, dim], [n, dim] */
    const float *ddenominator;                 /* [n, heads] */
    ha_rows_out dqueries, dkeys, dvalues;
    const float *before,
        *after; /* [features, dim + 1]: sums over the chunks before it, their gradient from those after */
} chunk_problem;

/* With w_ij = dnum_i . v_j + dden_i (j <= i) and p_ij = phi(q_i) . phi(k_j):
 *     dphi(q_i) = sum_j w_ij phi(k_j) + S dnum_i + z dden_i
 *     dphi(k_j) = sum_i w_ij phi(q_i) + dS v_j + dz
 *     dv_j = sum_i p_ij dnum_i + dS^T phi(k_j)
 * where S, z are `before`, sums over the chunks before, and dS, dz `after`, sums of phi(q)^T dnum
 * and phi(q) dden over the chunks after. scratch [features + dim, HA_CHUNK], [features, dim], 2
 * [HA_CHUNK, HA_CHUNK] */
static void chunk_backward(const ha_linear_attention *a, int n, const chunk_problem *p, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int F = a->features, D = a->dim, group = a->heads / a->kv_heads;
    const ha_rows keys = p->keys, values = p->values;
    const ha_rows_out dkeys = p->dkeys, dvalues = p->dvalues;
    float *keys_turned = scratch, *values_turned = keys_turned + (ptrdiff_t)F * C,
          *sums_turned = values_turned + (ptrdiff_t)D * C, *scores = sums_turned + (ptrdiff_t)F * D,
          *slopes = scores + C * C;
    const float *key_sum = p->before + (ptrdiff_t)F * D, *key_sum_after = p->after + (ptrdiff_t)F * D;
    kernel->transpose(n, F, keys.at, keys.stride, keys_turned, C);
    kernel->transpose(n, D, values.at, values.stride, values_turned, C);
    kernel->transpose(F, D, p->after, D, sums_turned, F);
    kernel->gemm(ha_matmul_of(n, F, D, 0), ha_view_rows(values), ha_rows_of(sums_turned, F), dkeys);
    kernel->gemm(ha_matmul_of(n, D, F, 0), ha_view_rows(keys), ha_rows_of(p->after, D), dvalues);
    for (int j = 0; j < n; j++)
        kernel->axpy((size_t)F, 1.0f, key_sum_after, dkeys.at + j * dkeys.stride);
    kernel->transpose(F, D, p->before, D, sums_turned, F);
    for (int g = 0; g < group; g++) {
        const ha_rows queries = ha_rows_from(p->queries, 0, (ptrdiff_t)g * F);
        const ha_rows dnumerator = ha_rows_from(p->dnumerator, 0, (ptrdiff_t)g * D);
        const ha_rows_out dqueries = ha_rows_out_from(p->dqueries, 0, (ptrdiff_t)g * F);
        const float *ddenominator = p->ddenominator + g;
        causal_scores(a, n, queries, keys_turned, scores);
        kernel->gemm(ha_matmul_of(n, n, D, 0), ha_view_rows(dnumerator), ha_rows_of(values_turned, C),
                     ha_rows_to(slopes, C));
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                slopes[i * C + j] = j <= i ? slopes[i * C + j] + ddenominator[(ptrdiff_t)i * a->heads] : 0.0f;
        kernel->gemm(ha_matmul_of(n, F, D, 0), ha_view_rows(dnumerator), ha_rows_of(sums_turned, F), dqueries);
        kernel->gemm(ha_matmul_of(n, F, n, 1), ha_view_rows(ha_rows_of(slopes, C)), keys, dqueries);
        for (int i = 0; i < n; i++)
            kernel->axpy((size_t)F, ddenominator[(ptrdiff_t)i * a->heads], key_sum, dqueries.at + i * dqueries.stride);
        kernel->gemm(ha_matmul_of(n, F, n, 1), ha_view_transposed(ha_rows_of(slopes, C)), queries, dkeys);
        kernel->gemm(ha_matmul_of(n, D, n, 1), ha_view_transposed(ha_rows_of(scores, C)), dnumerator, dvalues);
    }
}

/* own [features, dim + 1] = sums of phi(q)^T dnum and phi(q) dden over the rows of a chunk and the
 * heads of a key head */
static void sum_queries(const ha_linear_attention *a, const ha_batch *batch, ha_rows all_queries,
                        const ha_linear_attention_upstream *upstream, const chunk *chunk, int kv_head, float *own)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int F = a->features, D = a->dim, group = a->heads / a->kv_heads;
    const ptrdiff_t row = batch->offset[chunk->seq] + a->lag + chunk->from;
    memset(own, 0, ha_sum_size(a) * sizeof *own);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const ha_rows queries = ha_rows_from(all_queries, row, (ptrdiff_t)head * F);
        ha_add_outer(a, chunk->n, queries, ha_rows_from(upstream->numerator, row, (ptrdiff_t)head * D), own);
        for (int i = 0; i < chunk->n; i++)
            kernel->axpy((size_t)F, upstream->denominator[(row + i) * a->heads + head], queries.at + i * queries.stride,
                         own + (ptrdiff_t)F * D);
    }
}

static void clear_row(ha_rows_out x, int row, int width)
{
    memset(x.at + row * x.stride, 0, (size_t)width * sizeof *x.at);
}

/* Queries before the lag and keys that no query comes late enough for have gradients of 0. */
static void clear_unseen(const ha_linear_attention *a, const ha_batch *batch,
                         const ha_linear_attention_gradient *gradient)
{
    for (int s = 0; s < batch->n_seq; s++) {
        const int start = batch->offset[s], end = batch->offset[s + 1], n = shared_rows(a, batch, s);
        for (int r = start; r < end - n; r++)
            clear_row(gradient->queries, r, a->heads * a->features);
        for (int r = start + n; r < end; r++) {
            clear_row(gradient->keys, r, a->kv_heads * a->features);
            clear_row(gradient->values, r, a->kv_heads * a->dim);
        }
    }
}

ha_status ha_linear_causal_backward(const ha_linear_attention *a, const ha_batch *batch,
                                    const ha_linear_attention_in *in, const float *saved,
                                    const ha_linear_attention_upstream *upstream,
                                    const ha_linear_attention_gradient *gradient, ha_arena *work)
{
    const int threads = ha_threads();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int chunks = count_chunks(a, batch), kv_heads = a->kv_heads, group = a->heads / kv_heads;
    const ptrdiff_t F = a->features, D = a->dim;
    chunk *list;
    float *after, *scratch;
    const size_t per_thread = (size_t)((F + D) * C + F * D + 2 * C * C);
    HA_PUSH(list, work, (size_t)chunks);
    HA_PUSH(after, work, (size_t)chunks * (size_t)kv_heads * size);
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    list_chunks(a, batch, list);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv_heads; h++)
            sum_queries(a, batch, in->queries, upstream, &list[c], h,
                        after + ((size_t)c * (size_t)kv_heads + (size_t)h) * size);
    accumulate(a, batch, after, NULL, 1);
    clear_unseen(a, batch, gradient);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int c = 0; c < chunks; c++)
        for (int h = 0; h < kv_heads; h++) {
            const chunk *k = &list[c];
            const size_t at = ((size_t)c * (size_t)kv_heads + (size_t)h) * size;
            const ptrdiff_t key = batch->offset[k->seq] + k->from, query = key + a->lag, head = (ptrdiff_t)h * group;
            const chunk_problem problem = {.queries = ha_rows_from(in->queries, query, head * F),
                                           .keys = ha_rows_from(in->keys[k->seq], k->from, h * F),
                                           .values = ha_rows_from(in->values[k->seq], k->from, h * D),
                                           .dnumerator = ha_rows_from(upstream->numerator, query, head * D),
                                           .ddenominator = upstream->denominator + query * a->heads + head,
                                           .dqueries = ha_rows_out_from(gradient->queries, query, head * F),
                                           .dkeys = ha_rows_out_from(gradient->keys, key, h * F),
                                           .dvalues = ha_rows_out_from(gradient->values, key, h * D),
                                           .before = saved + at,
                                           .after = after + at};
            chunk_backward(a, k->n, &problem, scratch + per_thread * (size_t)ha_thread_index());
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
