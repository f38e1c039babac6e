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
    float *columns;  /* [6][C, dv]: z, u, dout, dz, du, and dwv or v - u */
    float *end;
} scratch_parts;

static scratch_parts parts(const ha_recurrence *r, float *at)
{
    const size_t rows = C * (size_t)padded(r->dk);
    scratch_parts p = {.packed = at, .gradient = at + packed_floats(r)};
    p.history = p.gradient + 5 * rows;
    p.d = p.history + (C + 1) * HA_REPLAY_COLUMNS * (size_t)padded(r->dk);
    p.columns = p.d + (size_t)r->dv * (size_t)padded(r->dk);
    p.end = p.columns + 6 * C * (size_t)r->dv;
    return p;
}

/* All columns of a chunk in one piece, read once: rows of one head lie a page apart. beta [C] */
static ha_recurrence_columns pack_columns(const ha_recurrence *r, const ha_recurrence_in *in, int n, ptrdiff_t first,
                                          ptrdiff_t row, int h, const float *u, const float *dout, ptrdiff_t lddo,
                                          float *beta, float *to)
{
    const int dv = r->dv;
    const size_t bytes = (size_t)dv * sizeof *to;
    float *z = to, *uu = z + C * dv, *o = uu + C * dv, *dz = o + C * dv, *du = dz + C * dv, *dwv = du + C * dv;
    for (int t = 0; t < n; t++) {
        const ptrdiff_t at = (row + t) * r->heads + h;
        memcpy(z + t * dv, in->v + (row + t) * in->ldv + (ptrdiff_t)h * dv, bytes);
        memcpy(o + t * dv, dout + (row + t) * lddo + (ptrdiff_t)h * dv, bytes);
        beta[t] = in->beta ? in->beta[at] : 1.0f;
        if (u)
            memcpy(uu + t * dv, u + at * dv, bytes);
        float *off = dwv + t * dv; /* v - u: with a beta no column decays */
        for (int j = 0; in->beta && j < dv; j++) {
            off[j] = z[t * dv + j] - uu[t * dv + j];
            z[t * dv + j] = beta[t] * off[j];
        }
        if (row + t - C >= first) { /* the chunk that is next */
            prefetch_row(in->q, in->ldk, r->dk, row + t - C, h);
            prefetch_row(in->k, in->ldk, r->dk, row + t - C, h);
            prefetch_row(in->v, in->ldv, dv, row + t - C, h);
            prefetch_row(dout, lddo, dv, row + t - C, h);
            if (u)
                prefetch_row(u, (ptrdiff_t)r->heads * dv, dv, row + t - C, h);
        }
    }
    return (ha_recurrence_columns){dv, z, uu, o, dz, du, dwv};
}

/* One block of columns of a chunk: adds to the gradients of the rows; d [cols, ld] moves to the front. */
static void block_backward(const ha_recurrence *r, const ha_recurrence_chunk *whole, int col, int cols,
                           const float *state, const float *beta, const ha_recurrence_columns *all,
                           const ha_recurrence_gradient *g, scratch_parts *p)
{
    ha_recurrence_chunk c = *whole;
    c.wv = c.wv ? c.wv + col : NULL;
    const ha_recurrence_columns x = {all->ld,       all->z + col,  all->u + col,  all->dout + col,
                                     all->dz + col, all->du + col, all->dwv + col};
    for (int j = 0; j < cols; j++)
        memcpy(p->history + j * c.ld, state + (ptrdiff_t)(col + j) * r->dk, (size_t)r->dk * sizeof *state);
    ha_kernels_get()->recurrence_replay(&c, cols, &x, p->history);
    ha_kernels_get()->recurrence_backward(&c, cols, beta, p->history, p->d + col * c.ld, &x, g);
}

/* dv, and the gradients of beta and of the columns' decay, which are sums over what the blocks left. */
static void unpack_columns(const ha_recurrence *r, const ha_recurrence_in *in, const ha_recurrence_chunk *c,
                           ptrdiff_t row, int h, const float *beta, const ha_recurrence_columns *x,
                           const ha_recurrence_out *d)
{
    const int dv = r->dv;
    for (int t = 0; t < c->n; t++) {
        const ptrdiff_t at = (row + t) * r->heads + h;
        const float *dz = x->dz + t * dv;
        float *to = d->v + (row + t) * d->ldv + (ptrdiff_t)h * dv;
        for (int j = 0; j < dv; j++)
            to[j] = beta[t] * dz[j];
        float *dg = c->wv ? d->g + at * dv : NULL;
        for (int j = 0; dg && j < dv; j++)
            dg[j] = c->wv[t * c->ldwv + j] * x->dwv[t * dv + j];
        if (in->beta)
            d->beta[at] = ha_kernels_get()->dot((size_t)dv, dz, x->dwv + t * dv);
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
                float beta[C];
                const ha_recurrence_columns x =
                    pack_columns(r, in, c.n, batch->offset[s], row, h, c.b ? u : NULL, dout, lddo, beta, p.columns);
                for (int col = 0; col < dv; col += HA_REPLAY_COLUMNS)
                    block_backward(r, &c, col, dv - col < HA_REPLAY_COLUMNS ? dv - col : HA_REPLAY_COLUMNS, state, beta,
                                   &x, &gradient, &p);
                unpack_columns(r, in, &c, row, h, beta, &x, d);
                unpack_gradient(r, in, &c, row, h, &gradient, d);
            }
            if (kept)
                kernel->transpose(dv, dk, p.d, ld, kept, dv);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
