/* RMSNorm and LayerNorm. Floor: reads x and writes y once, 8 rows*d bytes. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 32 };

/* Where vector i of [rows, heads, dim] starts. */
static ptrdiff_t place(int i, int heads, int dim, ptrdiff_t ld)
{
    return i / heads * ld + (ptrdiff_t)(i % heads) * dim;
}

void ha_head_norm_forward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w, float eps,
                          float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > BLOCK)
    for (int i = 0; i < rows * heads; i++)
        kernel->rms_norm(dim, x + place(i, heads, dim, ldx), w, eps, y + place(i, heads, dim, ldy));
}

void ha_rms_norm_forward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps, float *y,
                         ptrdiff_t ldy)
{
    ha_head_norm_forward(rows, 1, d, x, ldx, w, eps, y, ldy);
}

void ha_layer_norm_forward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, const float *b, float eps,
                           float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > BLOCK)
    for (int r = 0; r < rows; r++)
        kernel->layer_norm(d, x + r * ldx, w, b, eps, y + r * ldy);
}

/* Vectors x, dy and dx of [rows, heads, dim]. */
typedef struct {
    int heads, dim;
    const float *x, *dy, *w;
    float *dx;
    ptrdiff_t ldx, lddy, lddx;
    float eps;
} vectors;

static void backward_of(const ha_kernels *kernel, const vectors *v, int i, int layer_norm, float *dw, float *db)
{
    const float *x = v->x + place(i, v->heads, v->dim, v->ldx), *dy = v->dy + place(i, v->heads, v->dim, v->lddy);
    float *dx = v->dx + place(i, v->heads, v->dim, v->lddx);
    if (layer_norm)
        kernel->layer_norm_backward(v->dim, x, v->w, v->eps, dy, dx, dw, db);
    else
        kernel->rms_norm_backward(v->dim, x, v->w, v->eps, dy, dx, dw);
}

/* db NULL: RMSNorm, or nothing is wanted of the weights */
static ha_status backward(const vectors *v, int n, int layer_norm, float *dw, float *db, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const size_t d = (size_t)v->dim, wide = layer_norm ? 2 * d : d, mark = ha_arena_mark(work);
    const int blocks = (n + BLOCK - 1) / BLOCK;
    float *partial = NULL; /* [blocks, wide]: dw and db of each block, added in order afterwards */
    if (dw)
        HA_PUSH(partial, work, (size_t)blocks * wide);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        float *sum = partial ? partial + (size_t)b * wide : NULL;
        if (sum)
            memset(sum, 0, wide * sizeof *sum);
        for (int i = b * BLOCK; i < n && i < (b + 1) * BLOCK; i++)
            backward_of(kernel, v, i, layer_norm, sum, sum ? sum + d : NULL);
    }
    for (int b = 0; partial && b < blocks; b++) {
        kernel->axpy(d, 1.0f, partial + (size_t)b * wide, dw);
        if (layer_norm)
            kernel->axpy(d, 1.0f, partial + (size_t)b * wide + d, db);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_head_norm_backward(int rows, int heads, int dim, const float *x, ptrdiff_t ldx, const float *w, float eps,
                                const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work)
{
    const vectors v = {heads, dim, x, dy, w, dx, ldx, lddy, lddx, eps};
    return backward(&v, rows * heads, 0, dw, NULL, work);
}

ha_status ha_rms_norm_backward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps,
                               const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, ha_arena *work)
{
    return ha_head_norm_backward(rows, 1, d, x, ldx, w, eps, dy, lddy, dx, lddx, dw, work);
}

ha_status ha_layer_norm_backward(int rows, int d, const float *x, ptrdiff_t ldx, const float *w, float eps,
                                 const float *dy, ptrdiff_t lddy, float *dx, ptrdiff_t lddx, float *dw, float *db,
                                 ha_arena *work)
{
    const vectors v = {1, d, x, dy, w, dx, ldx, lddy, lddx, eps};
    return backward(&v, rows, 1, dw, db, work);
}
