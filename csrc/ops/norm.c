/* RMSNorm and LayerNorm. Floor: reads x and writes y once, 8 rows*width bytes. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 32 };

/* Where vector i of [rows, heads, width] starts. */
static ptrdiff_t place(int i, int heads, int width, ptrdiff_t stride)
{
    return i / heads * stride + (ptrdiff_t)(i % heads) * width;
}

void ha_head_norm_forward(const ha_row_norm *norm, int rows, int heads, ha_rows x, ha_rows_out y)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int width = norm->width;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > BLOCK)
    for (int i = 0; i < rows * heads; i++)
        kernel->rms_norm(width, x.at + place(i, heads, width, x.stride), norm->weight, norm->eps,
                         y.at + place(i, heads, width, y.stride));
}

void ha_rms_norm_forward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows_out y)
{
    ha_head_norm_forward(norm, rows, 1, x, y);
}

void ha_layer_norm_forward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows_out y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > BLOCK)
    for (int r = 0; r < rows; r++)
        kernel->layer_norm(norm->width, x.at + r * x.stride, norm->weight, norm->bias, norm->eps, y.at + r * y.stride);
}

/* Vectors x, dy and dx of [rows, heads, width], and which of the two norms they go through. */
typedef struct {
    const ha_row_norm *norm;
    int heads, layer_norm;
    ha_rows x, dy;
    ha_rows_out dx;
} vectors;

/* Vector i; dweight, dbias [width] or NULL */
static void backward_of(const ha_kernels *kernel, const vectors *v, int i, float *dweight, float *dbias)
{
    const ha_row_norm *norm = v->norm;
    const int width = norm->width;
    const float *x = v->x.at + place(i, v->heads, width, v->x.stride);
    const float *dy = v->dy.at + place(i, v->heads, width, v->dy.stride);
    float *dx = v->dx.at + place(i, v->heads, width, v->dx.stride);
    if (v->layer_norm)
        kernel->layer_norm_backward(width, x, norm->weight, norm->eps, dy, dx, dweight, dbias);
    else
        kernel->rms_norm_backward(width, x, norm->weight, norm->eps, dy, dx, dweight);
}

/* n vectors; dbias NULL: RMSNorm, or nothing is wanted of the weights */
static ha_status backward(const vectors *v, int n, float *dweight, float *dbias, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t width = (size_t)v->norm->width, wide = v->layer_norm ? 2 * width : width, mark = ha_arena_mark(work);
    const int blocks = (n + BLOCK - 1) / BLOCK;
    float *partial = NULL; /* [blocks, wide]: gradients of weight and bias of each block, added in order afterwards */
    if (dweight)
        HA_PUSH(partial, work, (size_t)blocks * wide);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        float *sum = partial ? partial + (size_t)b * wide : NULL;
        if (sum)
            memset(sum, 0, wide * sizeof *sum);
        for (int i = b * BLOCK; i < n && i < (b + 1) * BLOCK; i++)
            backward_of(kernel, v, i, sum, sum ? sum + width : NULL);
    }
    for (int b = 0; partial && b < blocks; b++) {
        kernel->axpy(width, 1.0f, partial + (size_t)b * wide, dweight);
        if (v->layer_norm)
            kernel->axpy(width, 1.0f, partial + (size_t)b * wide + width, dbias);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_head_norm_backward(const ha_row_norm *norm, int rows, int heads, ha_rows x, ha_rows dy, ha_rows_out dx,
                                float *dweight, ha_arena *work)
{
    const vectors v = {norm, heads, 0, x, dy, dx};
    return backward(&v, rows * heads, dweight, NULL, work);
}

ha_status ha_rms_norm_backward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows dy, ha_rows_out dx, float *dweight,
                               ha_arena *work)
{
    return ha_head_norm_backward(norm, rows, 1, x, dy, dx, dweight, work);
}

ha_status ha_layer_norm_backward(const ha_row_norm *norm, int rows, ha_rows x, ha_rows dy, ha_rows_out dx,
                                 float *dweight, float *dbias, ha_arena *work)
{
    const vectors v = {norm, 1, 1, x, dy, dx};
    return backward(&v, rows, dweight, dbias, work);
}
