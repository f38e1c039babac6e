/* Linear attention over both sides of a query.
 *
 * Without a lag a sequence has one sum S = e^T v, z = sum of e, and each query one product with it:
 * no scores at all. Floor, per head and token: 4 features dim FLOP. With a lag what lies before and
 * what lies behind are summed apart, by the causal op on the batch and its mirror image: the whole
 * sum minus the near keys would cancel where near keys weigh most. */
#include "ops/linear_attention_both.h"

#include <string.h>

#include "core/thread.h"
#include "ops/linear_attention_causal.h"

enum { C = HA_CHUNK, PIECE = 8 * C /* rows that one task sums */ };

typedef struct {
    int seq, from, n; /* rows from .. from + n of the batch */
} piece;

/* The rows of every sequence, `size` at a time. */
static ha_status list_pieces(const ha_batch *batch, int size, piece **list, int *count, ha_arena *work)
{
    HA_PUSH(*list, work, (size_t)(batch->rows / size + batch->n_seq));
    *count = 0;
    for (int s = 0; s < batch->n_seq; s++)
        for (int from = batch->offset[s], end = batch->offset[s + 1]; from < end; from += size)
            (*list)[(*count)++] = (piece){s, from, end - from < size ? end - from : size};
    return HA_OK;
}

/* The operands of a sum over the rows of one sequence: left [., heads, features], right [., heads,
 * dim], and a weight of each row of left in z [., heads], or NULL: 1. */
typedef struct {
    ha_rows left, right;
    const float *weight;
} summed;

/* own [features, dim + 1] = left^T right and the sum of left, over a piece's rows and the `group`
 * heads of a key head */
static void sum_piece(const ha_linear_attention *a, const summed *in, ptrdiff_t from, int rows, int kv_head, int group,
                      float *own)
{
    const int F = a->features, D = a->dim;
    float *left_sum = own + (ptrdiff_t)F * D;
    memset(own, 0, ha_sum_size(a) * sizeof *own);
    for (int at = 0; at < rows; at += C)
        for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
            const int n = rows - at < C ? rows - at : C;
            const ptrdiff_t row = from + at;
            const ha_rows left = ha_rows_from(in->left, row, (ptrdiff_t)head * F);
            ha_add_outer(a, n, left, ha_rows_from(in->right, row, (ptrdiff_t)head * D), own);
            for (ptrdiff_t r = 0; r < n; r++)
                ha_kernels_get()->axpy((size_t)F, in->weight ? in->weight[(row + r) * a->heads + head] : 1.0f,
                                       left.at + r * left.stride, left_sum);
        }
}

/* sums [n_seq, kv_heads, features, dim + 1]: pieces apart, then added in their order. in [n_seq]:
 * operands of each sequence, whose `group` heads belong to a key head. */
static ha_status sum_rows(const ha_linear_attention *a, const ha_batch *batch, const summed *in, int group, float *sums,
                          ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int kv_heads = a->kv_heads;
    piece *list;
    float *partial;
    int pieces;
    HA_TRY(list_pieces(batch, PIECE, &list, &pieces, work));
    HA_PUSH(partial, work, (size_t)(pieces * kv_heads) * size);
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int p = 0; p < pieces; p++)
        for (int h = 0; h < kv_heads; h++)
            sum_piece(a, &in[list[p].seq], list[p].from - batch->offset[list[p].seq], list[p].n, h, group,
                      partial + (size_t)(p * kv_heads + h) * size);
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < kv_heads; h++) {
            float *to = sums + (size_t)(s * kv_heads + h) * size;
            memset(to, 0, size * sizeof *to);
            for (int p = 0; p < pieces; p++)
                if (list[p].seq == s)
                    kernel->axpy(size, 1.0f, partial + (size_t)(p * kv_heads + h) * size, to);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_linear_all_forward(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                                const ha_linear_attention_out *out, float *sums, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a);
    const int kv_heads = a->kv_heads, group = a->heads / kv_heads, F = a->features, D = a->dim;
    summed *keys;
    piece *list;
    int pieces;
    HA_PUSH(keys, work, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++)
        keys[s] = (summed){in->keys[s], in->values[s], NULL};
    if (!sums)
        HA_PUSH(sums, work, (size_t)(batch->n_seq * kv_heads) * size);
    HA_TRY(sum_rows(a, batch, keys, 1, sums, work));
    HA_TRY(list_pieces(batch, C, &list, &pieces, work));
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int p = 0; p < pieces; p++)
        for (int head = 0; head < a->heads; head++) {
            const float *own = sums + (size_t)(list[p].seq * kv_heads + head / group) * size;
            const float *key_sum = own + (ptrdiff_t)F * D;
            const ptrdiff_t row = list[p].from;
            const ha_rows queries = ha_rows_from(in->queries, row, (ptrdiff_t)head * F);
            const ha_rows_out to = ha_rows_out_from(out->numerator, row, (ptrdiff_t)head * D);
            kernel->gemm(ha_matmul_of(list[p].n, D, F, 0), ha_view_rows(queries), ha_rows_of(own, D), to);
            for (ptrdiff_t r = 0; r < list[p].n; r++)
                out->denominator[(row + r) * a->heads + head] =
                    kernel->dot((size_t)F, queries.at + r * queries.stride, key_sum);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* What the backward pass of a whole batch was called with. */
typedef struct {
    const ha_linear_attention *a;
    const ha_batch *batch;
    const ha_linear_attention_in *in;
    const ha_linear_attention_upstream *upstream;
    const ha_linear_attention_gradient *gradient;
} problem;

/* A piece of rows and a key head. With S, z the sums over the sequence and dS, dz those of phi(q)^T
 * dnum and phi(q) dden:
 *     dphi(q) = S dnum + z dden,  dphi(k) = dS v + dz,  dv = dS^T phi(k).
 * sums, dsums [features, dim + 1]; turned [dim, features] is scratch */
static void piece_backward(const problem *p, const piece *piece, int kv_head, const float *sums, const float *dsums,
                           float *turned)
{
    const ha_linear_attention *a = p->a;
    const ha_linear_attention_in *in = p->in;
    const ha_linear_attention_upstream *upstream = p->upstream;
    const ha_linear_attention_gradient *gradient = p->gradient;
    const ha_kernels *kernel = ha_kernels_get();
    const int F = a->features, D = a->dim, group = a->heads / a->kv_heads, n = piece->n;
    const float *key_sum = sums + (ptrdiff_t)F * D, *dkey_sum = dsums + (ptrdiff_t)F * D;
    const ptrdiff_t row = piece->from, local = row - p->batch->offset[piece->seq];
    const ha_rows keys = ha_rows_from(in->keys[piece->seq], local, (ptrdiff_t)kv_head * F);
    const ha_rows values = ha_rows_from(in->values[piece->seq], local, (ptrdiff_t)kv_head * D);
    const ha_rows_out dkeys = ha_rows_out_from(gradient->keys, row, (ptrdiff_t)kv_head * F);
    const ha_rows_out dvalues = ha_rows_out_from(gradient->values, row, (ptrdiff_t)kv_head * D);
    kernel->transpose(F, D, dsums, D, turned, F);
    kernel->gemm(ha_matmul_of(n, F, D, 0), ha_view_rows(values), ha_rows_of(turned, F), dkeys);
    kernel->gemm(ha_matmul_of(n, D, F, 0), ha_view_rows(keys), ha_rows_of(dsums, D), dvalues);
    for (ptrdiff_t r = 0; r < n; r++)
        kernel->axpy((size_t)F, 1.0f, dkey_sum, dkeys.at + r * dkeys.stride);
    kernel->transpose(F, D, sums, D, turned, F);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const ha_rows dnumerator = ha_rows_from(upstream->numerator, row, (ptrdiff_t)head * D);
        const ha_rows_out dqueries = ha_rows_out_from(gradient->queries, row, (ptrdiff_t)head * F);
        kernel->gemm(ha_matmul_of(n, F, D, 0), ha_view_rows(dnumerator), ha_rows_of(turned, F), dqueries);
        for (ptrdiff_t r = 0; r < n; r++)
            kernel->axpy((size_t)F, upstream->denominator[(row + r) * a->heads + head], key_sum,
                         dqueries.at + r * dqueries.stride);
    }
}

ha_status ha_linear_all_backward(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                                 const float *sums, const ha_linear_attention_upstream *upstream,
                                 const ha_linear_attention_gradient *gradient, ha_arena *work)
{
    const size_t mark = ha_arena_mark(work), size = ha_sum_size(a), square = (size_t)a->features * (size_t)a->dim;
    const int kv_heads = a->kv_heads, group = a->heads / kv_heads, threads = ha_threads();
    summed *queries;
    float *dsums, *scratch;
    piece *list;
    int pieces;
    HA_PUSH(queries, work, (size_t)batch->n_seq);
    HA_PUSH(dsums, work, (size_t)(batch->n_seq * kv_heads) * size);
    HA_PUSH(scratch, work, (size_t)threads * square);
    for (int s = 0; s < batch->n_seq; s++) {
        const ptrdiff_t row = batch->offset[s];
        queries[s] = (summed){ha_rows_from(in->queries, row, 0), ha_rows_from(upstream->numerator, row, 0),
                              upstream->denominator + row * a->heads};
    }
    const problem whole = {a, batch, in, upstream, gradient};
    HA_TRY(sum_rows(a, batch, queries, group, dsums, work));
    HA_TRY(list_pieces(batch, C, &list, &pieces, work));
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int p = 0; p < pieces; p++)
        for (int h = 0; h < kv_heads; h++) {
            const size_t at = (size_t)(list[p].seq * kv_heads + h) * size;
            piece_backward(&whole, &list[p], h, sums + at, dsums + at, scratch + (size_t)ha_thread_index() * square);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* The batch and its mirror image, with room for the operands of the causal op on both: [2 rows, .]
 * each. */
typedef struct {
    ha_linear_attention a;
    ha_batch batch;
    float *queries, *keys, *values;
    int query_width, key_width, value_width, out_width;
    ha_rows *key_rows, *value_rows; /* [2 n_seq] */
} mirrored;

/* Sizes and arrays for the batch twice over, the second time back to front. */
static ha_status mirror_shape(const ha_linear_attention *a, const ha_batch *batch, mirrored *m, ha_arena *work)
{
    *m = (mirrored){.a = *a, .query_width = a->heads * a->features, .key_width = a->kv_heads * a->features};
    m->value_width = a->kv_heads * a->dim;
    m->out_width = a->heads * a->dim;
    m->a.bidirectional = 0;
    const size_t rows = 2 * (size_t)batch->rows;
    HA_PUSH(m->queries, work, rows * (size_t)m->query_width);
    HA_PUSH(m->keys, work, rows * (size_t)m->key_width);
    HA_PUSH(m->values, work, rows * (size_t)m->value_width);
    return ha_mirror_batch(batch, work, &m->batch);
}

/* The operands of both directions, in their places. */
static ha_status mirror_operands(const ha_linear_attention *a, const ha_batch *batch, const ha_linear_attention_in *in,
                                 mirrored *m, ha_arena *work)
{
    const int rows = batch->rows;
    HA_TRY(mirror_shape(a, batch, m, work));
    HA_PUSH(m->key_rows, work, (size_t)m->batch.n_seq);
    HA_PUSH(m->value_rows, work, (size_t)m->batch.n_seq);
    ha_mirror(rows, m->query_width, in->queries.at, in->queries.stride, m->queries);
    for (int s = 0; s < batch->n_seq; s++)
        for (ptrdiff_t r = batch->offset[s], i = 0; r < batch->offset[s + 1]; r++, i++) {
            memcpy(m->keys + r * m->key_width, in->keys[s].at + i * in->keys[s].stride,
                   (size_t)m->key_width * sizeof *m->keys);
            memcpy(m->values + r * m->value_width, in->values[s].at + i * in->values[s].stride,
                   (size_t)m->value_width * sizeof *m->values);
        }
    ha_mirror(rows, m->key_width, m->keys, m->key_width, m->keys);
    ha_mirror(rows, m->value_width, m->values, m->value_width, m->values);
    for (int s = 0; s < m->batch.n_seq; s++) {
        const ptrdiff_t row = m->batch.offset[s];
        m->key_rows[s] = ha_rows_of(m->keys + row * m->key_width, m->key_width);
        m->value_rows[s] = ha_rows_of(m->values + row * m->value_width, m->value_width);
    }
    return HA_OK;
}

static ha_linear_attention_in operands_of(const mirrored *m)
{
    return (ha_linear_attention_in){ha_rows_of(m->queries, m->query_width), m->key_rows, m->value_rows};
}

ha_status ha_linear_mirrored_forward(const ha_linear_attention *a, const ha_batch *batch,
                                     const ha_linear_attention_in *in, const ha_linear_attention_out *out, float *saved,
                                     ha_arena *work)
{
    const size_t mark = ha_arena_mark(work);
    const int rows = batch->rows;
    mirrored m;
    float *sums, *mass;
    HA_TRY(mirror_operands(a, batch, in, &m, work));
    HA_PUSH(sums, work, 2 * (size_t)rows * (size_t)m.out_width);
    HA_PUSH(mass, work, 2 * (size_t)rows * (size_t)a->heads);
    const ha_linear_attention_in both = operands_of(&m);
    const ha_linear_attention_out to = {ha_rows_to(sums, m.out_width), mass};
    HA_TRY(ha_linear_causal_forward(&m.a, &m.batch, &both, NULL, &to, saved, work));
    ha_fold(rows, m.out_width, sums, out->numerator.at, out->numerator.stride);
    ha_fold(rows, a->heads, mass, out->denominator, a->heads);
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_linear_mirrored_backward(const ha_linear_attention *a, const ha_batch *batch,
                                      const ha_linear_attention_in *in, const float *saved,
                                      const ha_linear_attention_upstream *upstream,
                                      const ha_linear_attention_gradient *gradient, ha_arena *work)
{
    const size_t mark = ha_arena_mark(work);
    const int rows = batch->rows;
    mirrored m, d;
    float *dsums, *dmass;
    HA_TRY(mirror_operands(a, batch, in, &m, work));
    HA_TRY(mirror_shape(a, batch, &d, work));
    HA_PUSH(dsums, work, 2 * (size_t)rows * (size_t)m.out_width);
    HA_PUSH(dmass, work, 2 * (size_t)rows * (size_t)a->heads);
    ha_mirror(rows, m.out_width, upstream->numerator.at, upstream->numerator.stride, dsums);
    ha_mirror(rows, a->heads, upstream->denominator, a->heads, dmass);
    const ha_linear_attention_in both = operands_of(&m);
    const ha_linear_attention_upstream down = {ha_rows_of(dsums, m.out_width), dmass};
    const ha_linear_attention_gradient to = {ha_rows_to(d.queries, d.query_width), ha_rows_to(d.keys, d.key_width),
                                             ha_rows_to(d.values, d.value_width)};
    HA_TRY(ha_linear_causal_backward(&m.a, &m.batch, &both, saved, &down, &to, work));
    ha_fold(rows, d.query_width, d.queries, gradient->queries.at, gradient->queries.stride);
    ha_fold(rows, d.key_width, d.keys, gradient->keys.at, gradient->keys.stride);
    ha_fold(rows, d.value_width, d.values, gradient->values.at, gradient->values.stride);
    ha_arena_release(work, mark);
    return HA_OK;
}
