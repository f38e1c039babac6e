/* Linear recurrence, backward: one task for each (sequence, head), its chunks from last to first.
 *
 * A chunk's states are made again from the one saved before it, a block of columns at a time so that they stay in L2, and
 * the gradient D of the state goes back through the tokens (sums over columns unless said):
 *     D += q do^T;   dq = S_t do;   dk = D z;   da = D u;   dz = D^T k;   du = D^T a (delta rule: -beta dz)
 *     dw = sum_j D_j S_{t-1,j};   db = S_{t-1} du;   D <- diag(w) D + b du^T
 * and, in the delta rule with z = beta (v - u) and b = w k:  dv = beta dz,  dbeta = dz . (v - u),  dk += w db,  dw += k db.
 * dg = w dw, summed over channels for a gate per head. Where w belongs to the columns, dw_j = sum_i D_ij S_{t-1,ij}. */
#include "core/thread.h"
#include "ops/recurrence_chunk.h"

typedef struct {
    float *packed;   /* as pack_chunk fills it */
    float *gradient; /* [5][C, ld]: q, k, w, a, b */
    float *history;  /* [C + 1, columns, ld] */
    float *d;        /* [dv, ld] */
    float *columns;  /* [6][C, columns]: z, u, dout, dz, du, dwv */
    float *end;
} scratch_parts;

static scratch_parts parts(const ha_recurrence *r, float *at)
{
    const size_t rows = C * (size_t)padded(r->dk);
    scratch_parts p = {.packed = at, .gradient = at + packed_floats(r)};
    p.history = p.gradient + 5 * rows;
    p.d = p.history + (C + 1) * HA_REPLAY_COLUMNS * (size_t)padded(r->dk);
    p.columns = p.d + (size_t)r->dv * (size_t)padded(r->dk);
    p.end = p.columns + 6 * C * HA_REPLAY_COLUMNS;
    return p;
}

/* One block of columns of a chunk: adds to the gradients of the rows and writes dv; d [cols, ld] moves to the front. */
static void block_backward(const ha_recurrence *r, const ha_recurrence_in *in, const ha_recurrence_chunk *whole,
                           ptrdiff_t first, ptrdiff_t row, int h, int col, int cols, const float *state, const float *u,
                           const float *dout, ptrdiff_t lddo, const ha_recurrence_gradient *g, scratch_parts *p,
                           const ha_recurrence_out *d)
{
    const ha_kernels *kernel = ha_kernels_get();
    ha_recurrence_chunk own = *whole, *c = &own;
    own.wv = own.wv ? own.wv + col : NULL;
    const int heads = r->heads, n = c->n;
    const ptrdiff_t at = (ptrdiff_t)h * r->dv + col, ldu = (ptrdiff_t)heads * r->dv;
    float *z = p->columns, *uu = z + n * cols, *o = uu + n * cols, *dz = o + n * cols, *du = dz + n * cols;
    float *dwv = du + n * cols, beta[C];
    for (int t = 0; t < n; t++) {
        const float *v = in->v + (row + t) * in->ldv + at, *seen = c->b ? u + (row + t) * ldu + at : NULL;
        beta[t] = in->beta ? in->beta[(row + t) * heads + h] : 1.0f;
        memcpy(o + t * cols, dout + (row + t) * lddo + at, (size_t)cols * sizeof *o);
        memcpy(z + t * cols, v, (size_t)cols * sizeof *z);
        if (seen)
            memcpy(uu + t * cols, seen, (size_t)cols * sizeof *uu);
    }
    for (int t = 0; in->beta && t < n; t++)
        for (int j = 0; j < cols; j++)
            z[t * cols + j] = beta[t] * (z[t * cols + j] - uu[t * cols + j]);
    /* the chunk that is next, a share of it with each block */
    const int share = (int)(((ptrdiff_t)C * cols + r->dv - 1) / r->dv);
    for (ptrdiff_t t = row - C + (ptrdiff_t)C * col / r->dv, end = t + share; t < end && t >= first; t++) {
        prefetch_row(in->q, in->ldk, r->dk, t, h);
        prefetch_row(in->k, in->ldk, r->dk, t, h);
        prefetch_row(in->v, in->ldv, r->dv, t, h);
        prefetch_row(dout, lddo, r->dv, t, h);
        if (c->b)
            prefetch_row(u, ldu, r->dv, t, h);
    }
    for (int j = 0; j < cols; j++)
        memcpy(p->history + j * c->ld, state + (ptrdiff_t)(col + j) * r->dk, (size_t)r->dk * sizeof *state);
    kernel->recurrence_replay(c, cols, z, uu, p->history);
    const ha_recurrence_columns x = {z, uu, o, dz, du, dwv};
    kernel->recurrence_backward(c, cols, beta, p->history, p->d + col * c->ld, &x, g);
    for (int t = 0; t < n; t++) {
        float *dv = d->v + (row + t) * d->ldv + at;
        for (int j = 0; j < cols; j++)
            dv[j] = beta[t] * dz[t * cols + j];
        float *dg = d->g + (row + t) * ldu + at;
        for (int j = 0; c->wv && j < cols; j++)
            dg[j] = c->wv[t * c->ldwv + j] * dwv[t * cols + j];
    }
    for (int t = 0; in->beta && t < n; t++) {
        const float *v = in->v + (row + t) * in->ldv + at;
        float *to = d->beta + (row + t) * heads + h, sum = 0.0f;
        for (int j = 0; j < cols; j++)
            sum += dz[t * cols + j] * (v[j] - uu[t * cols + j]);
        *to = (col ? *to : 0.0f) + sum;
    }
}

/* From the gradients of the packed rows to those of the operands. */
static void unpack_gradient(const ha_recurrence *r, const ha_recurrence_in *in, const ha_recurrence_chunk *c,
                            ptrdiff_t row, int h, const ha_recurrence_gradient *g, const ha_recurrence_out *d)
{
    const int dk = r->dk;
    const size_t bytes = (size_t)dk * sizeof(float);
    for (int t = 0; t < c->n; t++, row++) {
        const ptrdiff_t to = row * d->ldk + (ptrdiff_t)h * dk, at = t * c->ld;
        for (int i = 0; in->beta && i < dk; i++) {
            g->k[at + i] += c->w[at + i] * g->b[at + i];
            g->w[at + i] += c->k[at + i] * g->b[at + i];
        }
        memcpy(d->q + to, g->q + at, bytes);
        memcpy(d->k + to, g->k + at, bytes);
        if (in->a) {
            memcpy(d->a + to, g->a + at, bytes);
            memcpy(d->b + to, g->b + at, bytes);
        }
        if (r->gate == HA_GATE_HEAD)
            d->g[row * r->heads + h] = ha_kernels_get()->dot((size_t)dk, c->w + at, g->w + at);
        float *dg = d->g + (row * r->heads + h) * dk;
        for (int i = 0; r->gate == HA_GATE_CHANNEL && i < dk; i++)
            dg[i] = c->w[at + i] * g->w[at + i];
    }
}

ha_status ha_recurrence_backward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                 const float *u, const float *states, const float *dout, ptrdiff_t lddo,
                                 float *const *dstate, const ha_recurrence_out *d, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int heads = r->heads, dk = r->dk, dv = r->dv;
    const ptrdiff_t ld = padded(dk), wide = C * ld;
    const size_t mark = ha_arena_mark(work), size = (size_t)dk * (size_t)dv;
    const size_t per_thread = ((size_t)(parts(r, NULL).end - (float *)NULL) + 15) / 16 * 16;
    const int threads = ha_threads();
    float *scratch;
    size_t *first;
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_TRY(first_states(r, batch, work, &first));
    memset(scratch, 0, per_thread * (size_t)threads * sizeof *scratch);
#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++) {
            scratch_parts p = parts(r, scratch + per_thread * (size_t)ha_thread_index());
            float *kept = dstate && dstate[s] ? dstate[s] + (size_t)h * size : NULL, *g = p.gradient;
            const ha_recurrence_gradient gradient = {g, g + wide, g + 2 * wide, g + 3 * wide, g + 4 * wide};
            memset(p.d, 0, (size_t)dv * (size_t)ld * sizeof *p.d);
            if (kept)
                kernel->transpose(dk, dv, kept, dv, p.d, ld);
            for (ptrdiff_t chunk = chunks_of(batch, s) - 1; chunk >= 0; chunk--) {
                const ptrdiff_t row = batch->offset[s] + chunk * C, left = batch->offset[s + 1] - row;
                const float *state = states + first[s] + ((size_t)chunk * (size_t)heads + (size_t)h) * size;
                const ha_recurrence_chunk c = pack_chunk(r, in, row, left < C ? (int)left : C, h, p.packed);
                memset(g, 0, 5 * (size_t)wide * sizeof *g);
                for (int col = 0; col < dv; col += HA_REPLAY_COLUMNS)
                    block_backward(r, in, &c, batch->offset[s], row, h, col,
                                   dv - col < HA_REPLAY_COLUMNS ? dv - col : HA_REPLAY_COLUMNS, state, u, dout, lddo,
                                   &gradient, &p, d);
                unpack_gradient(r, in, &c, row, h, &gradient, d);
            }
            if (kept)
                kernel->transpose(dv, dk, p.d, ld, kept, dv);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
