/* y = x W^T + bias. Floor: 2 rows*in*out FLOP at GEMM peak; for a few rows, the bytes of W at memory bandwidth. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"
#include "ops/product.h"

enum { FEW_ROWS = 4, FEW_STORED_ROWS = 16, BLOCK = 64 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

static int blocks_of(int n)
{
    return (n + BLOCK - 1) / BLOCK;
}

/* Few rows: BLIS would pack a matrix that is used once, so stream it in fixed blocks over our own threads; all parts of
 * W are one parallel region. */
static void few_rows(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, const ha_matrix *w,
                     float beta, float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
    int blocks = 0, counted = 0;
    for (const ha_matrix *part = w; counted < out; counted += min(part->rows, out - counted), part = part->next)
        blocks += blocks_of(min(part->rows, out - counted));
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        const ha_matrix *part = w;
        int first = 0, at = b; /* output of the part's first row; block within the part */
        for (; at >= blocks_of(min(part->rows, out - first)); first += part->rows, part = part->next)
            at -= blocks_of(part->rows);
        int from = at * BLOCK, n = min(min(part->rows, out - first) - from, BLOCK);
        const size_t stride = ha_dtype_bytes(part->dtype, (size_t)in);
        const void *data = (const char *)part->data + (size_t)from * stride;
        float *to = y + first + from;
        if (part->dtype == HA_F32)
            kernel->gemv(rows, n, in, alpha, x, ldx, data, in, beta != 0.0f, to, ldy);
        else
            kernel->stored_gemv[part->dtype](rows, n, in, alpha, x, ldx, data, stride, beta != 0.0f, to, ldy);
    }
}

static void add_bias(int rows, int out, float alpha, const float *bias, float *y, ptrdiff_t ldy)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        kernel->axpy((size_t)out, alpha, bias, y + r * ldy);
}

void ha_linear_forward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, ha_matrix w,
                       const float *bias, float beta, float *y, ptrdiff_t ldy)
{
    if (rows <= FEW_ROWS) {
        few_rows(rows, in, out, alpha, x, ldx, &w, beta, y, ldy);
    } else {
        const ha_matrix *part = &w;
        for (int from = 0, n; from < out; from += n, part = part->next) {
            n = min(part->rows, out - from);
            if (part->dtype == HA_F32)
                ha_product(rows, n, in, alpha, ha_view_rows(x, ldx), ha_view_transposed(part->data, in), beta != 0.0f,
                           y + from, ldy);
            else if (rows <= FEW_STORED_ROWS)
                few_rows(rows, in, n, alpha, x, ldx, part, beta, y + from, ldy);
            else
                ha_stored_forward(rows, in, n, alpha, x, ldx, part, beta, y + from, ldy);
        }
    }
    if (bias)
        add_bias(rows, out, alpha, bias, y, ldy);
}

static void input_gradient(int rows, int in, int out, float alpha, const ha_matrix *w, const float *dy, ptrdiff_t lddy,
                           float beta, float *dx, ptrdiff_t lddx)
{
    for (int from = 0, n; from < out; from += n, w = w->next, beta = 1.0f) {
        n = min(w->rows, out - from);
        if (w->dtype == HA_F32)
            ha_product(rows, in, n, alpha, ha_view_rows(dy + from, lddy), ha_view_rows(w->data, in), beta != 0.0f, dx,
                       lddx);
        else
            ha_stored_backward(rows, in, n, alpha, dy + from, lddy, w, beta, dx, lddx);
    }
}

void ha_linear_backward(int rows, int in, int out, float alpha, const float *x, ptrdiff_t ldx, ha_matrix w,
                        const float *dy, ptrdiff_t lddy, float beta, float *dx, ptrdiff_t lddx, float *dw, float *dbias)
{
    if (dx)
        input_gradient(rows, in, out, alpha, &w, dy, lddy, beta, dx, lddx);
    if (dw)
        ha_product(out, in, rows, alpha, ha_view_transposed(dy, lddy), ha_view_rows(x, ldx), 1, dw, in);
    if (dbias) { /* threads share out columns: rows then add up in order whoever does it */
        const ha_kernels *kernel = ha_kernels_get();
        const int blocks = blocks_of(out);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
        for (int b = 0; b < blocks; b++) {
            int from = b * BLOCK, n = min(out - from, BLOCK);
            for (int r = 0; r < rows; r++)
                kernel->axpy((size_t)n, alpha, dy + r * lddy + from, dbias + from);
        }
    }
}
