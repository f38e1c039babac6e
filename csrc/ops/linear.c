/* y = x W^T + bias. Floor: 2 rows*in*out FLOP at GEMM peak; for a few rows, 4 in*out bytes at memory bandwidth. */
#include "core/blas.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { FEW_ROWS = 4, BLOCK = 64 };

/* Few rows: BLIS would pack a matrix that is used once, so stream it in fixed blocks over our own threads. */
static void few_rows(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, const float *w, float beta,
                     float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
    int blocks = (out + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        int from = b * BLOCK, n = out - from < BLOCK ? out - from : BLOCK;
        kernel->gemv(rows, n, in, alpha, x, ldx, w + (ptrdiff_t)from * in, in, beta != 0.0f, y + from, ldy);
    }
}

static void add_bias(int rows, int out, float alpha, const float *bias, float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        kernel->axpy((size_t)out, alpha, bias, y + r * ldy);
}

void ha_linear_forward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, const float *w,
                       const float *bias, float beta, float *y, ptrdiff_t ldy)
{
    if (rows <= FEW_ROWS)
        few_rows(rows, in, out, alpha, x, ldx, w, beta, y, ldy);
    else
        ha_gemm(rows, out, in, alpha, x, ldx, 1, w, 1, in, beta, y, ldy, 1);
    if (bias)
        add_bias(rows, out, alpha, bias, y, ldy);
}

void ha_linear_backward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, const float *w,
                        const float *dy, ptrdiff_t lddy, float beta, float *dx, ptrdiff_t lddx, float *dw, float *dbias)
{
    if (dx)
        ha_gemm(rows, in, out, alpha, dy, lddy, 1, w, in, 1, beta, dx, lddx, 1);
    if (dw)
        ha_gemm(out, in, rows, alpha, dy, 1, lddy, x, ldx, 1, 1.0f, dw, in, 1);
    if (dbias) {
        const ha_kernels *kernel = ha_kernels_get();
        for (int r = 0; r < rows; r++)
            kernel->axpy((size_t)out, alpha, dy + r * lddy, dbias);
    }
}
