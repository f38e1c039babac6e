/* Hedgehog feature map: a learned matrix per head, then a softmax over both signs. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { TILE = 64 };

ha_status ha_hedgehog_forward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w, float *y,
                              ptrdiff_t ldy, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), square = (size_t)dim * (size_t)dim;
    int tiles = (rows + TILE - 1) / TILE;
    float *wt, *scratch;
    HA_PUSH(wt, work, (size_t)heads * square);
    HA_PUSH(scratch, work, (size_t)threads * TILE * (size_t)dim);
    for (int h = 0; h < heads; h++)
        kernel->transpose(dim, dim, w + (size_t)h * square, dim, wt + (size_t)h * square, dim);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int t = 0; t < tiles; t++)
        for (int h = 0; h < heads; h++) {
            float *u = scratch + (ptrdiff_t)ha_thread_index() * TILE * dim;
            int from = t * TILE, m = rows - from < TILE ? rows - from : TILE;
            kernel->gemm(m, dim, dim, 1.0f, x + from * ldx + (ptrdiff_t)h * dim, ldx, 1, wt + (size_t)h * square, dim,
                         0, u, dim);
            for (int r = 0; r < m; r++)
                kernel->softmax_pair(dim, u + (ptrdiff_t)r * dim, y + (from + r) * ldy + (ptrdiff_t)h * 2 * dim);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_hedgehog_backward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w,
                               const float *y, ptrdiff_t ldy, const float *dy, ptrdiff_t lddy, float *dx,
                               ptrdiff_t lddx, float *dw, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), square = (size_t)dim * (size_t)dim;
    float *scratch;
    HA_PUSH(scratch, work, (size_t)threads * TILE * (size_t)dim);
    /* One task a head: its dw then sums over rows in order. */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int h = 0; h < heads; h++) {
        float *du = scratch + (ptrdiff_t)ha_thread_index() * TILE * dim;
        for (int from = 0; from < rows; from += TILE) {
            int m = rows - from < TILE ? rows - from : TILE;
            for (int r = 0; r < m; r++)
                kernel->softmax_pair_backward(dim, y + (from + r) * ldy + (ptrdiff_t)h * 2 * dim,
                                              dy + (from + r) * lddy + (ptrdiff_t)h * 2 * dim, du + (ptrdiff_t)r * dim);
            kernel->gemm(m, dim, dim, 1.0f, du, dim, 1, w + (size_t)h * square, dim, 1,
                         dx + from * lddx + (ptrdiff_t)h * dim, lddx);
            if (dw)
                kernel->gemm(dim, dim, m, 1.0f, du, 1, dim, x + from * ldx + (ptrdiff_t)h * dim, ldx, 1,
                             dw + (size_t)h * square, dim);
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
