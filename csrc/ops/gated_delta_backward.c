/* Gated delta rule, backward: the chunks of a (sequence, head) from last to first, carrying dS.
 *
 * In the notation of gated_delta_chunk.h, with r the gradient of beta^-1 u before the solve (so dv = beta r):
 *     du   = qk^T do + exp(G_n - G) K dS,            r_i = du_i - sum_{j>i} kk_ji dv_j
 *     dP   = D . (do u^T)  (j <= i),                 dM  = -D . (dv u^T)  (j < i)
 *     dq   = exp(G) do S^T + dP K
 *     dk   = -exp(G) dv S^T + exp(G_n - G) u dS^T + (dM + dM^T) K + dP^T Q
 *     dS  <- exp(G_n) dS + Q^T exp(G) do - K^T exp(G) dv
 *     dbeta_i = r_i . z_i
 *     dg_t = sum_{i>=t} (do_i . o_i - dv_i . v_i) + <S', dS'>
 * The last line holds because every term that reaches o_i scales with exp(G_i), and every use of u_j with exp(-G_j).
 * Floor, per head and chunk: 2 C (5 dk dv + 3 C dv / 2 + 6 C dk / 2) FLOP. */
#include <string.h>

#include "core/thread.h"
#include "ops/gated_delta_chunk.h"

typedef struct {
    const float *q, *k, *v, *g, *beta, *out, *z, *dout;
    float *dq, *dk, *dv, *dg, *dbeta;
} rows_of_head;

typedef struct {
    ha_chunk c;
    float decay[C * C], dp[C * C], dm[C * C], turned[C * C];
    float rest[]; /* u, r, grown_do [C,dv]; wide [C,max]; ut [dv,C]; st, dst [dv,dk] */
} scratchpad;

static size_t scratch_floats(const ha_gated_delta *d)
{
    size_t dk = (size_t)d->dk, dv = (size_t)d->dv;
    return sizeof(scratchpad) / sizeof(float) + C * (4 * dv + dk) + 2 * dk * dv + HA_ALIGN;
}

/* r on entry is du; dv_i = beta_i r_i becomes final from the last row to the first. */
static void solve_transposed(const ha_chunk *c, int n, int dv, int heads, const float *beta, float *r, float *dvalue,
                             ptrdiff_t ld)
{
    const ha_kernels *kernel = ha_kernels_get();
    for (int i0 = (n - 1) / BLOCK * BLOCK; i0 >= 0; i0 -= BLOCK) {
        int end = i0 + BLOCK < n ? i0 + BLOCK : n;
        if (end < n)
            kernel->gemm(end - i0, dv, n - end, -1.0f, c->kk + end * C + i0, 1, C, dvalue + end * ld, ld, 1,
                         r + (ptrdiff_t)i0 * dv, dv);
        for (int i = end - 1; i >= i0; i--) {
            if (i + 1 < end)
                kernel->gemm(1, dv, end - i - 1, -1.0f, c->kk + (i + 1) * C + i, 1, C, dvalue + (i + 1) * ld, ld, 1,
                             r + (ptrdiff_t)i * dv, dv);
            float b = beta[(ptrdiff_t)i * heads];
            for (int x = 0; x < dv; x++)
                dvalue[i * ld + x] = b * r[(ptrdiff_t)i * dv + x];
        }
    }
}

static void chunk_backward(const ha_gated_delta *d, int n, const rows_of_head *x, ptrdiff_t ldqk, ptrdiff_t ldv,
                           ptrdiff_t ldo, ptrdiff_t lddo, ptrdiff_t lddqk, ptrdiff_t lddv, const float *state,
                           const float *next, float *dstate, scratchpad *t)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int dk = d->dk, dv = d->dv, heads = d->heads;
    ha_chunk *c = &t->c;
    float *u = t->rest, *r = u + C * dv, *grown_do = r + C * dv, *ut = grown_do + C * dv, *wide = ut + C * dv;
    float *st = wide + C * dk, *dst = st + (ptrdiff_t)dk * dv;
    chunk_scores(c, n, dk, heads, x->q, x->k, ldqk, x->g, t->decay, wide);
    for (int i = 0; i < n; i++) {
        const float *z = x->z + (ptrdiff_t)i * heads * dv, b = x->beta[(ptrdiff_t)i * heads];
        for (int j = 0; j < dv; j++)
            u[(ptrdiff_t)i * dv + j] = b * z[j];
    }
    kernel->transpose(n, dv, u, dv, ut, C);
    kernel->transpose(dk, dv, state, dv, st, dk);
    kernel->transpose(dk, dv, dstate, dv, dst, dk);

    kernel->gemm(n, dv, dk, 1.0f, x->k, ldqk, 1, dstate, dv, 0, r, dv);
    kernel->scale_rows(n, dv, r, dv, c->rest);
    kernel->gemm(n, dv, n, 1.0f, c->qk, 1, C, x->dout, lddo, 1, r, dv);
    solve_transposed(c, n, dv, heads, x->beta, r, x->dv, lddv);

    kernel->gemm(n, n, dv, 1.0f, x->dout, lddo, 1, ut, C, 0, t->dp, C);
    kernel->gemm(n, n, dv, -1.0f, x->dv, lddv, 1, ut, C, 0, t->dm, C);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            t->dp[i * C + j] *= t->decay[i * C + j];
            t->dm[i * C + j] = j < i ? t->dm[i * C + j] * t->decay[i * C + j] : 0.0f;
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            t->turned[i * C + j] = j < i ? t->dm[i * C + j] : t->dm[j * C + i];

    /* <S', dS'> before dstate moves on, and the running sum of dg from the last row to the first */
    double sum = (double)kernel->dot((size_t)dk * (size_t)dv, next, dstate);
    for (int i = n - 1; i >= 0; i--) {
        sum += (double)kernel->dot((size_t)dv, x->dout + i * lddo, x->out + i * ldo);
        sum -= (double)kernel->dot((size_t)dv, x->dv + i * lddv, x->v + i * ldv);
        x->dg[(ptrdiff_t)i * heads] = (float)sum;
        x->dbeta[(ptrdiff_t)i * heads] =
            kernel->dot((size_t)dv, r + (ptrdiff_t)i * dv, x->z + (ptrdiff_t)i * heads * dv);
    }

    for (int i = 0; i < n; i++)
        memcpy(grown_do + (ptrdiff_t)i * dv, x->dout + i * lddo, sizeof *u * (size_t)dv);
    kernel->scale_rows(n, dv, grown_do, dv, c->grown);
    kernel->gemm(n, dk, dv, 1.0f, grown_do, dv, 1, st, dk, 0, x->dq, lddqk);
    kernel->gemm(n, dk, n, 1.0f, t->dp, C, 1, x->k, ldqk, 1, x->dq, lddqk);

    kernel->scale_rows(n, dv, u, dv, c->rest);
    kernel->gemm(n, dk, dv, 1.0f, u, dv, 1, dst, dk, 0, x->dk, lddqk);
    float *grown_dv = r;
    for (int i = 0; i < n; i++)
        memcpy(grown_dv + (ptrdiff_t)i * dv, x->dv + i * lddv, sizeof *u * (size_t)dv);
    kernel->scale_rows(n, dv, grown_dv, dv, c->grown);
    kernel->gemm(n, dk, dv, -1.0f, grown_dv, dv, 1, st, dk, 1, x->dk, lddqk);
    kernel->gemm(n, dk, n, 1.0f, t->turned, C, 1, x->k, ldqk, 1, x->dk, lddqk);
    kernel->gemm(n, dk, n, 1.0f, t->dp, 1, C, x->q, ldqk, 1, x->dk, lddqk);

    for (int i = 0; i < dk * dv; i++)
        dstate[i] *= c->grown[n - 1];
    kernel->gemm(dk, dv, n, 1.0f, x->q, 1, ldqk, grown_do, dv, 1, dstate, dv);
    kernel->gemm(dk, dv, n, -1.0f, x->k, 1, ldqk, grown_dv, dv, 1, dstate, dv);
}

ha_status ha_gated_delta_backward(const ha_gated_delta *d, const ha_batch *batch, const float *q, const float *k,
                                  ptrdiff_t ldqk, const float *v, ptrdiff_t ldv, const float *g, const float *beta,
                                  const float *out, ptrdiff_t ldo, const float *z, const float *states,
                                  const float *dout, ptrdiff_t lddo, float *const *dstate, float *dq, float *dk,
                                  ptrdiff_t lddqk, float *dv, ptrdiff_t lddv, float *dg, float *dbeta, ha_arena *work)
{
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), size = (size_t)d->dk * (size_t)d->dv, per_thread = scratch_floats(d);
    const int heads = d->heads;
    float *scratch, *carried;
    size_t *first;
    per_thread = (per_thread + 15) / 16 * 16;
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_PUSH(carried, work, size * (size_t)threads);
    HA_PUSH(first, work, (size_t)batch->n_seq);
    for (int s = 0, n = 0; s < batch->n_seq; s++) {
        first[s] = (size_t)n * (size_t)heads * size;
        n += (batch->offset[s + 1] - batch->offset[s] + C - 1) / C + 1;
    }
#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++) {
            scratchpad *t = (scratchpad *)(scratch + per_thread * (size_t)ha_thread_index());
            float *ds = carried + size * (size_t)ha_thread_index(),
                  *kept = dstate && dstate[s] ? dstate[s] + (size_t)h * size : NULL;
            if (kept)
                memcpy(ds, kept, size * sizeof *ds);
            else
                memset(ds, 0, size * sizeof *ds);
            ptrdiff_t start = batch->offset[s], rows = batch->offset[s + 1] - start;
            for (ptrdiff_t chunk = (rows + C - 1) / C - 1; chunk >= 0; chunk--) {
                ptrdiff_t row = start + chunk * C, at = row * heads + h;
                int n = rows - chunk * C < C ? (int)(rows - chunk * C) : C;
                const float *state = states + first[s] + ((size_t)chunk * (size_t)heads + (size_t)h) * size;
                rows_of_head x = {.q = q + row * ldqk + (ptrdiff_t)h * d->dk,
                                  .k = k + row * ldqk + (ptrdiff_t)h * d->dk,
                                  .v = v + row * ldv + (ptrdiff_t)h * d->dv,
                                  .g = g + at,
                                  .beta = beta + at,
                                  .out = out + row * ldo + (ptrdiff_t)h * d->dv,
                                  .z = z + at * d->dv,
                                  .dout = dout + row * lddo + (ptrdiff_t)h * d->dv,
                                  .dq = dq + row * lddqk + (ptrdiff_t)h * d->dk,
                                  .dk = dk + row * lddqk + (ptrdiff_t)h * d->dk,
                                  .dv = dv + row * lddv + (ptrdiff_t)h * d->dv,
                                  .dg = dg + at,
                                  .dbeta = dbeta + at};
                chunk_backward(d, n, &x, ldqk, ldv, ldo, lddo, lddqk, lddv, state, state + (size_t)heads * size, ds, t);
            }
            if (kept)
                memcpy(kept, ds, size * sizeof *ds);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
