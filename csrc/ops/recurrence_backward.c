/* Linear recurrence, backward: one task for each chunk of a (sequence, head), from last to first.
 *
 * The last chunks of all heads and sequences come first, then those before them: threads stay busy
 * to the end whatever the number of heads, and neighbouring heads read the same pages. A chunk's
 * states are made again from the one saved before it, a block of columns at a time so that they
 * stay in L2, and the gradient D of the state goes back through the tokens (sums over columns
 * unless said):
 *     D += q do^T;   dq = S_t do;   dk = D z;   da = D u;   dz = D^T k;   du = D^T a (delta rule: -beta dz)
 *     dw = sum_j D_j S_{t-1,j};   db = S_{t-1} du;   D <- diag(w) D + b du^T
 * and, in the delta rule with z = beta (v - u) and b = w k: dv = beta dz, dbeta = dz . (v - u), dk
 * += w db, dw += k db. dg = w dw, summed over channels for a gate per head. Where w belongs to the
 * columns, dw_j = sum_i D_ij S_{t-1,ij}. */
#include <stdatomic.h>

#include "core/slices.h"
#include "core/team.h"
#include "core/thread.h"
#include "ops/recurrence_chunk.h"

typedef struct {
    float *packed;   /* as pack_chunk fills it */
    float *gradient; /* [group + 4][C, ld]: q of each head of the group, k, w, a, b */
    float *history;  /* [C + 1, columns, ld] */
    float *columns;  /* [5 + group][C, dv]: z, u, dz, du, dwv or v - u, and dout of each head of the group */
    size_t floats;
} scratch_parts;

/* Where they lie in the scratch of a thread; with NULL only `floats` is meant. */
static scratch_parts parts(const ha_recurrence *r, float *scratch)
{
    const size_t ld = (size_t)padded(r->key_dim);
    ha_slices slices = {scratch, 0};
    scratch_parts p;
    p.packed = ha_slice(&slices, packed_floats(r));
    p.gradient = ha_slice(&slices, (size_t)(4 + r->group) * C * ld);
    p.history = ha_slice(&slices, (C + 1) * HA_REPLAY_COLUMNS * ld);
    p.columns = ha_slice(&slices, (size_t)(5 + r->group) * C * (size_t)r->value_dim);
    p.floats = slices.used;
    return p;
}

/* Rows between a copy and the prefetch that went before it. */
enum { AHEAD = 6 };

/* A chunk of a head: rows row .. row + n of the batch. */
typedef struct {
    ptrdiff_t row;
    int n, head;
} place;

/* All columns of a chunk in one piece, read once; asks for the rows of q and k on the way. reads
 * [rows, heads, dv] or NULL, dout [rows, heads * group, dv], beta [HA_CHUNK] */
static ha_recurrence_columns pack_columns(const ha_recurrence *r, const ha_recurrence_in *in, const place *at_chunk,
                                          const float *reads, ha_rows dout, float *beta, float *to)
{
    const ptrdiff_t row = at_chunk->row;
    const int n = at_chunk->n, h = at_chunk->head;
    const int dv = r->value_dim;
    const size_t bytes = (size_t)dv * sizeof *to;
    float *z = to, *uu = z + C * dv, *dz = uu + C * dv, *du = dz + C * dv, *dwv = du + C * dv, *o = dwv + C * dv;
    for (int t = 0; t < n; t++) {
        const ptrdiff_t at = (row + t) * r->heads + h;
        PREFETCH_ROW(in->queries, in->query_stride, r->group * r->key_dim, row + t, h, 0);
        PREFETCH_ROW(in->keys, in->key_stride, r->key_dim, row + t, h, 0);
        PREFETCH_ROW(in->values, in->value_stride, dv, row + t + AHEAD, h, 0);
        PREFETCH_ROW(dout.at, dout.stride, r->group * dv, row + t + AHEAD, h, 0);
        if (reads)
            PREFETCH_ROW(reads, (ptrdiff_t)r->heads * dv, dv, row + t + AHEAD, h, 0);
        memcpy(z + t * dv, in->values + (row + t) * in->value_stride + (ptrdiff_t)h * dv, bytes);
        for (ptrdiff_t g = 0; g < r->group; g++)
            memcpy(o + (g * C + t) * dv, dout.at + (row + t) * dout.stride + (h * r->group + g) * dv, bytes);
        beta[t] = in->beta ? in->beta[at] : 1.0f;
        if (reads)
            memcpy(uu + t * dv, reads + at * dv, bytes);
        float *off = dwv + t * dv; /* v - u: with a beta no column decays */
        for (int j = 0; in->beta && j < dv; j++) {
            off[j] = z[t * dv + j] - uu[t * dv + j];
            z[t * dv + j] = beta[t] * off[j];
        }
    }
    return (ha_recurrence_columns){dv, (ptrdiff_t)C * dv, z, uu, o, dz, du, dwv};
}

/* A chunk as the kernels see it. */
typedef struct {
    ha_recurrence_chunk rows;
    ha_recurrence_columns columns;
    ha_recurrence_gradient gradient; /* of the rows */
    const float *beta;               /* [HA_CHUNK] */
    const float *state;              /* [dv, dk] before the chunk */
    float *carried;                  /* [dv, ld] gradient of the state, moved from the end of the chunk to its front */
    float *history;                  /* [HA_CHUNK + 1, columns of a block, ld] scratch */
} packed_chunk;

/* Columns col .. col + cols of a chunk: adds to the gradients of the rows. */
static void block_backward(const ha_recurrence *r, const packed_chunk *p, int col, int cols)
{
    const ha_recurrence_columns *all = &p->columns;
    ha_recurrence_chunk c = p->rows;
    c.value_decay = c.value_decay ? c.value_decay + col : NULL;
    const ha_recurrence_columns x = {all->stride,     all->dout_group,    all->writes + col, all->reads + col,
                                     all->dout + col, all->dwrites + col, all->dreads + col, all->dvalue_decay + col};
    for (int j = 0; j < cols; j++)
        memcpy(p->history + j * c.stride, p->state + (ptrdiff_t)(col + j) * r->key_dim,
               (size_t)r->key_dim * sizeof *p->state);
    ha_kernels_get()->recurrence_replay(&c, cols, &x, p->history);
    ha_kernels_get()->recurrence_backward(&c, cols, p->beta, p->history, p->carried + col * c.stride, &x, &p->gradient);
}

/* dv, and the gradients of beta and of the columns' decay, which are sums over what the blocks
 * left. */
static void unpack_columns(const ha_recurrence *r, const ha_recurrence_in *in, const ha_recurrence_chunk *c,
                           ptrdiff_t row, int h, const float *beta, const ha_recurrence_columns *x,
                           const ha_recurrence_out *d)
{
    const int dv = r->value_dim;
    for (int t = 0; t < c->count; t++) {
        const ptrdiff_t at = (row + t) * r->heads + h;
        const float *dz = x->dwrites + t * dv;
        float *to = d->values + (row + t) * d->value_stride + (ptrdiff_t)h * dv;
        PREFETCH_ROW(d->values, d->value_stride, dv, row + t + AHEAD, h, 1);
        PREFETCH_ROW(d->queries, d->query_stride, r->group * r->key_dim, row + t, h, 1);
        PREFETCH_ROW(d->keys, d->key_stride, r->key_dim, row + t, h, 1);
        for (int j = 0; j < dv; j++)
            to[j] = beta[t] * dz[j];
        float *dg = c->value_decay ? d->log_decay + at * dv : NULL;
        for (int j = 0; dg && j < dv; j++)
            dg[j] = c->value_decay[t * c->value_decay_stride + j] * x->dvalue_decay[t * dv + j];
        if (in->beta)
            d->beta[at] = ha_kernels_get()->dot((size_t)dv, dz, x->dvalue_decay + t * dv);
    }
}

/* From the gradients of the packed rows to those of the operands. */
static void unpack_gradient(const ha_recurrence *r, const ha_recurrence_in *in, const ha_recurrence_chunk *c,
                            ptrdiff_t row, int h, const ha_recurrence_gradient *g, const ha_recurrence_out *d)
{
    const int dk = r->key_dim;
    const size_t bytes = (size_t)dk * sizeof(float), all = (size_t)c->count * (size_t)c->stride;
    if (in->beta) {
        ha_kernels_get()->mul_add(all, c->decay, g->erase_read, g->keys);
        ha_kernels_get()->mul_add(all, c->keys, g->erase_read, g->decay);
    }
    for (int t = 0; t < c->count; t++, row++) {
        const ptrdiff_t to = row * d->key_stride + (ptrdiff_t)h * dk, at = t * c->stride;
        for (ptrdiff_t i = 0; i < r->group; i++)
            memcpy(d->queries + row * d->query_stride + (h * r->group + i) * dk, g->queries + i * c->query_group + at,
                   bytes);
        memcpy(d->keys + to, g->keys + at, bytes);
        if (in->erase_write) {
            memcpy(d->erase_write + to, g->erase_write + at, bytes);
            memcpy(d->erase_read + to, g->erase_read + at, bytes);
        }
        if (r->gate == HA_GATE_HEAD)
            d->log_decay[row * r->heads + h] = ha_kernels_get()->dot((size_t)dk, c->decay + at, g->decay + at);
        float *dg = r->gate == HA_GATE_CHANNEL ? d->log_decay + (row * r->heads + h) * dk : NULL;
        for (int i = 0; dg && i < dk; i++)
            dg[i] = c->decay[at + i] * g->decay[at + i];
    }
}

/* What a backward pass was called with. */
typedef struct {
    const ha_recurrence *r;
    const ha_recurrence_in *in;
    const float *reads;
    ha_rows dout;
    const ha_recurrence_out *gradient;
} problem;

/* state [dv, dk] before the chunk; carried [dv, ld], the gradient of the state, moves from its end
 * to its front. */
static void one_chunk(const problem *p, const place *at, const float *state, float *carried, float *scratch)
{
    const ha_recurrence *r = p->r;
    const ha_recurrence_in *in = p->in;
    const ptrdiff_t wide = C * padded(r->key_dim);
    const scratch_parts s = parts(r, scratch);
    float *g = s.gradient, *of_keys = g + r->group * wide, beta[C];
    const packed_chunk packed = {
        .columns = pack_columns(r, in, at, in->erase_write || in->beta ? p->reads : NULL, p->dout, beta, s.columns),
        .rows = pack_chunk(r, in, at->row, at->n, at->head, s.packed),
        .gradient = {g, of_keys, of_keys + wide, of_keys + 2 * wide, of_keys + 3 * wide},
        .beta = beta,
        .state = state,
        .carried = carried,
        .history = s.history};
    memset(g, 0, (size_t)(4 + r->group) * (size_t)wide * sizeof *g);
    for (int col = 0; col < r->value_dim; col += HA_REPLAY_COLUMNS)
        block_backward(r, &packed, col,
                       r->value_dim - col < HA_REPLAY_COLUMNS ? r->value_dim - col : HA_REPLAY_COLUMNS);
    unpack_columns(r, in, &packed.rows, at->row, at->head, beta, &packed.columns, p->gradient);
    unpack_gradient(r, in, &packed.rows, at->row, at->head, &packed.gradient, p->gradient);
}

typedef struct {
    int seq, chunk, before; /* chunks of the sequence that are done before this one */
} turn;

/* All chunks in the order of the tasks. */
static void chunks_in_order(const ha_batch *batch, turn *order)
{
    int count = 0;
    for (int before = 0, more = 1; more; before++) {
        more = 0;
        for (int s = 0; s < batch->n_seq; s++) {
            const int chunks = chunks_of(batch, s);
            if (before < chunks)
                order[count++] = (turn){s, chunks - 1 - before, before};
            more |= before + 1 < chunks;
        }
    }
}

ha_status ha_recurrence_backward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                 const ha_recurrence_saved *saved, ha_rows dout, float *const *state_gradient,
                                 const ha_recurrence_out *gradient, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int heads = r->heads, dk = r->key_dim, dv = r->value_dim, lines = batch->n_seq * heads;
    const int threads = lines < ha_threads() ? lines : ha_threads();
    const ptrdiff_t ld = padded(dk);
    const size_t mark = ha_arena_mark(work), size = (size_t)dk * (size_t)dv, wide = (size_t)dv * (size_t)ld;
    const size_t per_thread = (parts(r, NULL).floats + 15) / 16 * 16;
    int all = 0;
    for (int s = 0; s < batch->n_seq; s++)
        all += chunks_of(batch, s);
    if (!all)
        return HA_OK;
    float *scratch, *carried; /* carried [n_seq, heads, dv, ld] */
    size_t *first;
    turn *order;
    atomic_int *done; /* chunks of each head of each sequence */
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_PUSH(carried, work, (size_t)lines * wide);
    HA_PUSH(order, work, (size_t)all);
    HA_PUSH(done, work, (size_t)lines);
    HA_TRY(first_states(r, batch, work, &first));
    memset(scratch, 0, per_thread * (size_t)threads * sizeof *scratch);
    memset(carried, 0, (size_t)lines * wide * sizeof *carried);
    chunks_in_order(batch, order);
    for (int i = 0; i < lines; i++) {
        const float *kept =
            state_gradient && state_gradient[i / heads] ? state_gradient[i / heads] + (size_t)(i % heads) * size : NULL;
        atomic_init(&done[i], 0);
        if (kept)
            kernel->transpose(dk, dv, kept, dv, carried + (size_t)i * wide, ld);
    }
    const problem whole = {r, in, saved->reads, dout, gradient};
    atomic_int next = 0; /* not a loop of OpenMP's, which may hand out later tasks first */
#pragma omp parallel num_threads(threads)
    for (int task; (task = atomic_fetch_add(&next, 1)) < all * heads;) {
        const turn at = order[task / heads];
        const int h = task % heads, line = at.seq * heads + h;
        const float *state = saved->states + first[at.seq] + ((size_t)at.chunk * (size_t)heads + (size_t)h) * size;
        ha_wait_until(&done[line], at.before); /* tasks are taken in order: it is done or in work */
        const ptrdiff_t row = batch->offset[at.seq] + (ptrdiff_t)at.chunk * C, left = batch->offset[at.seq + 1] - row;
        const place chunk = {row, left < C ? (int)left : C, h};
        one_chunk(&whole, &chunk, state, carried + (size_t)line * wide,
                  scratch + per_thread * (size_t)ha_thread_index());
        atomic_store_explicit(&done[line], at.before + 1, memory_order_release);
    }
    for (int i = 0; state_gradient && i < lines; i++)
        if (state_gradient[i / heads])
            kernel->transpose(dv, dk, carried + (size_t)i * wide, ld,
                              state_gradient[i / heads] + (size_t)(i % heads) * size, dv);
    ha_arena_release(work, mark);
    return HA_OK;
}
