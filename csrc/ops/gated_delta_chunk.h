/* One chunk of the gated delta rule: what its forward and backward passes share.
 *
 * With G_i = g_1 + .. + g_i inside the chunk (log space: every factor used is exp of a number <= 0), S the state before
 * it, D_ij = exp(G_i - G_j), and u_i = beta_i z_i:
 *     z_i = v_i - exp(G_i) S^T k_i - sum_{j<i} D_ij (k_i . k_j) u_j
 *     o_i = exp(G_i) S^T q_i + sum_{j<=i} D_ij (q_i . k_j) u_j
 *     S'  = exp(G_n) S + sum_j exp(G_n - G_j) k_j u_j^T
 * so a chunk is a few products of C x C, C x dk and dk x dv matrices around one triangular solve for z (the WY form of
 * Yang et al. 2024, with ungated k). */
#ifndef HA_OPS_GATED_DELTA_CHUNK_H
#define HA_OPS_GATED_DELTA_CHUNK_H

#include "kernels/kernels.h"
#include "ops/ops.h"

enum { C = HA_CHUNK, BLOCK = 16 };

typedef struct {
    float grown[C];  /* exp(G_i) */
    float rest[C];   /* exp(G_n - G_j) */
    float kk[C * C]; /* D_ij (k_i . k_j), j < i, else 0 */
    float qk[C * C]; /* D_ij (q_i . k_j), j <= i, else 0 */
} ha_chunk;

/* scratch: dk * C floats. decay[i,j] = D_ij (zero above the diagonal) is kept when wanted. */
static inline void chunk_scores(ha_chunk *c, int n, int dk, int heads, const float *q, const float *k, ptrdiff_t ld,
                                const float *g, float *decay, float *scratch)
{
    const ha_kernels *kernel = ha_kernels_get();
    float cumulative[C], row[C];
    double sum = 0.0;
    kernel->transpose(n, dk, k, ld, scratch, C);
    for (int i = 0; i < n; i++) {
        /* Below exp(-80) a decay is zero in float32; a floor keeps differences of sums exact enough, and finite. */
        float log_decay = g[(ptrdiff_t)i * heads];
        sum += log_decay < -80.0f ? -80.0f : log_decay;
        cumulative[i] = (float)sum;
    }
    for (int i = 0; i < n; i++)
        c->rest[i] = (float)(sum - cumulative[i]);
    kernel->exp((size_t)n, cumulative, c->grown);
    kernel->exp((size_t)n, c->rest, c->rest);
    for (int i0 = 0; i0 < n; i0 += BLOCK) {
        int m = n - i0 < BLOCK ? n - i0 : BLOCK, width = i0 + m;
        kernel->gemm(m, width, dk, 1.0f, k + i0 * ld, ld, 1, scratch, C, 0, c->kk + i0 * C, C);
        kernel->gemm(m, width, dk, 1.0f, q + i0 * ld, ld, 1, scratch, C, 0, c->qk + i0 * C, C);
        for (int i = i0; i < width; i++) {
            for (int j = 0; j <= i; j++)
                row[j] = cumulative[i] - cumulative[j];
            kernel->exp((size_t)i + 1, row, row);
            for (int j = 0; j < i; j++)
                c->kk[i * C + j] *= row[j];
            for (int j = 0; j <= i; j++)
                c->qk[i * C + j] *= row[j];
            for (int j = i; j < C; j++)
                c->kk[i * C + j] = 0.0f;
            for (int j = i + 1; j < C; j++)
                c->qk[i * C + j] = row[j] = 0.0f;
            for (int j = 0; decay && j < C; j++)
                decay[i * C + j] = row[j];
        }
    }
}

#endif
