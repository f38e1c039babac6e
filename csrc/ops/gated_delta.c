/* Gated delta rule, forward: chunk by chunk, one task for each (sequence, head); the state stays in L1.
 *
 * Floor, per head and chunk of C: 2 C (C dk / 2 twice + 3 dk dv + C dv / 2 twice) FLOP; q, k, v, out cross memory once. */
#include <string.h>

#include "core/thread.h"
#include "ops/gated_delta_chunk.h"

static int chunks_of(const ha_batch *batch, int s)
{
    return (batch->offset[s + 1] - batch->offset[s] + C - 1) / C;
}

size_t ha_gated_delta_states(const ha_gated_delta *d, const ha_batch *batch)
{
    size_t n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        n += (size_t)chunks_of(batch, s) + 1;
    return n * (size_t)d->heads * (size_t)d->dk * (size_t)d->dv;
}

/* z holds v - exp(G) S^T k on entry; solves z_i -= sum_{j<i} kk_ij u_j, u = beta z, in blocks of rows. */
static void solve(const ha_chunk *c, int n, int dv, int heads, const float *beta, float *z, float *u)
{
    const ha_kernels *kernel = ha_kernels_get();
    for (int i0 = 0; i0 < n; i0 += BLOCK) {
        int end = i0 + BLOCK < n ? i0 + BLOCK : n;
        if (i0)
            kernel->gemm(end - i0, dv, i0, -1.0f, c->kk + i0 * C, C, 1, u, dv, 1, z + (ptrdiff_t)i0 * dv, dv);
        for (int i = i0; i < end; i++) {
            if (i > i0)
                kernel->gemm(1, dv, i - i0, -1.0f, c->kk + i * C + i0, C, 1, u + (ptrdiff_t)i0 * dv, dv, 1,
                             z + (ptrdiff_t)i * dv, dv);
            float b = beta[(ptrdiff_t)i * heads];
            for (int x = 0; x < dv; x++)
                u[(ptrdiff_t)i * dv + x] = b * z[(ptrdiff_t)i * dv + x];
        }
    }
}

/* Advances state [dk,dv] over n rows; z, u [C,dv]; scratch [C dk]. */
static void chunk_forward(const ha_gated_delta *d, int n, const float *q, const float *k, ptrdiff_t ldqk,
                          const float *v, ptrdiff_t ldv, const float *g, const float *beta, float *state, float *out,
                          ptrdiff_t ldo, ha_chunk *c, float *z, float *u, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int dk = d->dk, dv = d->dv;
    chunk_scores(c, n, dk, d->heads, q, k, ldqk, g, NULL, scratch);
    kernel->gemm(n, dv, dk, -1.0f, k, ldqk, 1, state, dv, 0, z, dv);
    kernel->scale_rows(n, dv, z, dv, c->grown);
    for (int i = 0; i < n; i++)
        kernel->axpy((size_t)dv, 1.0f, v + i * ldv, z + (ptrdiff_t)i * dv);
    solve(c, n, dv, d->heads, beta, z, u);
    kernel->gemm(n, dv, dk, 1.0f, q, ldqk, 1, state, dv, 0, out, ldo);
    kernel->scale_rows(n, dv, out, ldo, c->grown);
    for (int i0 = 0; i0 < n; i0 += BLOCK) {
        int m = n - i0 < BLOCK ? n - i0 : BLOCK;
        kernel->gemm(m, dv, i0 + m, 1.0f, c->qk + i0 * C, C, 1, u, dv, 1, out + i0 * ldo, ldo);
    }
    kernel->scale_rows(n, dv, u, dv, c->rest);
    for (int i = 0; i < dk; i++)
        for (int x = 0; x < dv; x++)
            state[(ptrdiff_t)i * dv + x] *= c->grown[n - 1];
    kernel->gemm(dk, dv, n, 1.0f, k, 1, ldqk, u, dv, 1, state, dv);
}

/* One token: the recurrence as written, in passes over a state that stays in L1. */
static void token_forward(const ha_gated_delta *d, const float *q, const float *k, const float *v, float g, float beta,
                          float *state, float *out, float *u)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int dk = d->dk, dv = d->dv;
    float decay;
    kernel->exp(1, &g, &decay);
    kernel->scale_rows(1, dk * dv, state, 0, &decay);
    kernel->gemm(1, dv, dk, -beta, k, dk, 1, state, dv, 0, u, dv);
    kernel->axpy((size_t)dv, beta, v, u);
    kernel->gemm(dk, dv, 1, 1.0f, k, 1, 1, u, dv, 1, state, dv);
    kernel->gemm(1, dv, dk, 1.0f, q, dk, 1, state, dv, 0, out, dv);
}

ha_status ha_gated_delta_forward(const ha_gated_delta *d, const ha_batch *batch, const float *q, const float *k,
                                 ptrdiff_t ldqk, const float *v, ptrdiff_t ldv, const float *g, const float *beta,
                                 float *const *state_in, float *const *state_out, float *out, ptrdiff_t ldo, float *z,
                                 float *states, ha_arena *work)
{
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), size = (size_t)d->dk * (size_t)d->dv;
    const int heads = d->heads, dk = d->dk, dv = d->dv;
    size_t per_thread = sizeof(ha_chunk) / sizeof(float) + (size_t)C * (size_t)(2 * dv + dk) + size;
    float *scratch;
    size_t *first; /* [n_seq] where a sequence's saved states begin */
    HA_PUSH(scratch, work, per_thread * (size_t)threads);
    HA_PUSH(first, work, (size_t)batch->n_seq);
    for (int s = 0, n = 0; s < batch->n_seq; n += chunks_of(batch, s) + 1, s++)
        first[s] = (size_t)n * (size_t)heads * size;
#pragma omp parallel for schedule(dynamic, 1) collapse(2) num_threads(threads)
    for (int s = 0; s < batch->n_seq; s++)
        for (int h = 0; h < heads; h++) {
            ha_chunk *c = (ha_chunk *)(scratch + per_thread * (size_t)ha_thread_index());
            float *zc = (float *)(c + 1), *u = zc + C * dv, *kt = u + C * dv, *state = kt + C * dk;
            float *saved = states ? states + first[s] + (size_t)h * size : NULL;
            if (state_in && state_in[s])
                memcpy(state, state_in[s] + (size_t)h * size, size * sizeof *state);
            else
                memset(state, 0, size * sizeof *state);
            int end = batch->offset[s + 1];
            for (ptrdiff_t row = batch->offset[s]; row < end; row += C) {
                int n = end - row < C ? (int)(end - row) : C;
                const float *qr = q + row * ldqk + (ptrdiff_t)h * dk, *kr = k + row * ldqk + (ptrdiff_t)h * dk;
                const float *vr = v + row * ldv + (ptrdiff_t)h * dv;
                float *to = out + row * ldo + (ptrdiff_t)h * dv;
                if (saved) {
                    memcpy(saved, state, size * sizeof *state);
                    saved += (size_t)heads * size;
                }
                if (n == 1 && !z) {
                    token_forward(d, qr, kr, vr, g[row * heads + h], beta[row * heads + h], state, to, u);
                    continue;
                }
                chunk_forward(d, n, qr, kr, ldqk, vr, ldv, g + row * heads + h, beta + row * heads + h, state, to, ldo,
                              c, zc, u, kt);
                for (int i = 0; z && i < n; i++)
                    memcpy(z + ((row + i) * heads + h) * dv, zc + (ptrdiff_t)i * dv, sizeof *z * (size_t)dv);
            }
            if (saved)
                memcpy(saved, state, size * sizeof *state);
            if (state_out && state_out[s])
                memcpy(state_out[s] + (size_t)h * size, state, size * sizeof *state);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}
