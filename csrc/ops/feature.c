/* Feature maps of linear attention, head by head; two of them look at W x, with a matrix W for each
 * head. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { TILE = 64 };
static const float TOP = 30.0f; /* largest exponent of FAVOR: sums of products of two features stay finite */

int ha_feature_width(ha_feature map, int dim)
{
    return ha_feature_has_weight(map) ? 2 * dim : dim;
}

/* Comparisons let NaN through, as fminf and fmaxf would not. One row and head: y from x and, where
 * the map has a weight, u = W x. */
static void row_forward(ha_feature map, int dim, const float *x, const float *u, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t n = (size_t)dim;
    float half;
    switch (map) {
    case HA_FEATURE_ELU:
        for (int i = 0; i < dim; i++)
            y[i] = x[i] > 0.0f ? 0.0f : x[i];
        kernel->exp(n, y, y);
        for (int i = 0; i < dim; i++)
            y[i] += x[i] > 0.0f ? x[i] : 0.0f;
        break;
    case HA_FEATURE_RELU:
        for (int i = 0; i < dim; i++)
            y[i] = x[i] < 0.0f ? 0.0f : x[i];
        break;
    case HA_FEATURE_HEDGEHOG:
        kernel->softmax_pair(dim, u, y);
        break;
    case HA_FEATURE_FAVOR:
        half = 0.5f * kernel->dot(n, x, x) / sqrtf((float)dim);
        for (int i = 0; i < dim; i++) {
            const float up = u[i] - half, down = -u[i] - half;
            y[i] = up > TOP ? TOP : up;
            y[dim + i] = down > TOP ? TOP : down;
        }
        kernel->exp(2 * n, y, y);
        break;
    }
}

/* dx += what does not go through W; du = the gradient of W x, where the map has a weight. */
static void row_backward(ha_feature map, int dim, const float *x, const float *y, const float *dy, float *du, float *dx)
{
    const float *z = y + dim, *dz = dy + dim;
    float pull = 0.0f;
    switch (map) {
    case HA_FEATURE_ELU:
        for (int i = 0; i < dim; i++)
            dx[i] += x[i] > 0.0f ? dy[i] : dy[i] * y[i];
        break;
    case HA_FEATURE_RELU:
        for (int i = 0; i < dim; i++)
            dx[i] += x[i] > 0.0f ? dy[i] : 0.0f;
        break;
    case HA_FEATURE_HEDGEHOG:
        ha_kernels_get()->softmax_pair_backward(dim, y, dy, du);
        break;
    case HA_FEATURE_FAVOR:
        for (int i = 0; i < dim; i++) {
            float limit = 1.0686e13f, up = y[i] < limit ? y[i] * dy[i] : 0.0f,
                  down = z[i] < limit ? z[i] * dz[i] : 0.0f;
            du[i] = up - down;
            pull += up + down;
        }
        ha_kernels_get()->axpy((size_t)dim, -pull / sqrtf((float)dim), x, dx);
        break;
    }
}

ha_status ha_feature_forward(const ha_feature_map *f, int rows, ha_rows x, ha_rows_out y, ha_arena *work)
{
    const ha_feature map = f->map;
    const int heads = f->heads, dim = f->dim;
    const float *w = f->weight;
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), square = (size_t)dim * (size_t)dim;
    const int tiles = (rows + TILE - 1) / TILE, width = ha_feature_width(map, dim), threads = ha_threads();
    float *wt = NULL, *scratch = NULL;
    if (w) {
        HA_PUSH(wt, work, (size_t)heads * square);
        HA_PUSH(scratch, work, (size_t)threads * TILE * (size_t)dim);
        for (int h = 0; h < heads; h++)
            kernel->transpose(dim, dim, w + (size_t)h * square, dim, wt + (size_t)h * square, dim);
    }
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int t = 0; t < tiles; t++)
        for (int h = 0; h < heads; h++) {
            float *u = w ? scratch + (ptrdiff_t)ha_thread_index() * TILE * dim : NULL;
            const int from = t * TILE, m = rows - from < TILE ? rows - from : TILE;
            const float *in = x.at + from * x.stride + (ptrdiff_t)h * dim;
            if (w)
                kernel->gemm(ha_matmul_of(m, dim, dim, 0), ha_view_rows(ha_rows_of(in, x.stride)),
                             ha_rows_of(wt + (size_t)h * square, dim), ha_rows_to(u, dim));
            for (int r = 0; r < m; r++)
                row_forward(map, dim, in + r * x.stride, w ? u + (ptrdiff_t)r * dim : NULL,
                            y.at + (from + r) * y.stride + (ptrdiff_t)h * width);
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_feature_backward(const ha_feature_map *f, int rows, ha_rows x, ha_rows y, ha_rows dy, ha_rows_out dx,
                              float *dweight, ha_arena *work)
{
    const ha_feature map = f->map;
    const int heads = f->heads, dim = f->dim;
    const float *w = f->weight;
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work), square = (size_t)dim * (size_t)dim;
    const int width = ha_feature_width(map, dim), threads = ha_threads();
    float *scratch = NULL;
    if (w)
        HA_PUSH(scratch, work, (size_t)threads * TILE * (size_t)dim);
        /* One task a head: its dweight then sums over rows in order. */
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int h = 0; h < heads; h++) {
        float *du = w ? scratch + (ptrdiff_t)ha_thread_index() * TILE * dim : NULL;
        for (int from = 0; from < rows; from += TILE) {
            const int m = rows - from < TILE ? rows - from : TILE;
            const float *in = x.at + from * x.stride + (ptrdiff_t)h * dim;
            float *to = dx.at + from * dx.stride + (ptrdiff_t)h * dim;
            for (int r = 0; r < m; r++)
                row_backward(map, dim, in + r * x.stride, y.at + (from + r) * y.stride + (ptrdiff_t)h * width,
                             dy.at + (from + r) * dy.stride + (ptrdiff_t)h * width, w ? du + (ptrdiff_t)r * dim : NULL,
                             to + r * dx.stride);
            if (w)
                kernel->gemm(ha_matmul_of(m, dim, dim, 1), ha_view_rows(ha_rows_of(du, dim)),
                             ha_rows_of(w + (size_t)h * square, dim), ha_rows_to(to, dx.stride));
            if (dweight)
                kernel->gemm(ha_matmul_of(dim, dim, m, 1), ha_view_transposed(ha_rows_of(du, dim)),
                             ha_rows_of(in, x.stride), ha_rows_to(dweight + (size_t)h * square, dim));
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
