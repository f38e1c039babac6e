/* y = x W^T + bias. Floor: 2 rows*in*out FLOP at GEMM peak; for a few rows, the bytes of W at
 * memory bandwidth. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"
#include "ops/product.h"

enum { FEW_ROWS = 16, BLOCK = 64 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

static int blocks_of(int n)
{
    return (n + BLOCK - 1) / BLOCK;
}

/* y [rows, columns] = x [rows, depth] W^T for few rows: BLIS would pack a matrix that is used once,
 * so stream it in fixed blocks over our own threads; all parts of W are one parallel region. A
 * row's bits do not depend on how many are beside it: several tokens at once give what one after
 * the other does. */
static void few_rows(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int out = (int)p.columns;
    int blocks = 0, counted = 0;
    for (const ha_matrix *part = w; counted < out; counted += min(part->rows, out - counted), part = part->next)
        blocks += blocks_of(min(part->rows, out - counted));
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (blocks > 1)
    for (int b = 0; b < blocks; b++) {
        const ha_matrix *part = w;
        int first = 0, at = b; /* output of the part's first row; block within the part */
        for (; at >= blocks_of(min(part->rows, out - first)); first += part->rows, part = part->next)
            at -= blocks_of(part->rows);
        const int from = at * BLOCK;
        ha_matmul block = p;
        block.columns = min(min(part->rows, out - first) - from, BLOCK);
        const size_t stride = ha_dtype_bytes(part->dtype, (size_t)p.depth);
        const void *data = (const char *)part->data + (size_t)from * stride;
        const ha_rows_out to = ha_rows_out_from(y, 0, first + from);
        if (part->dtype == HA_F32)
            kernel->gemv(block, x, ha_rows_of(data, p.depth), to);
        else
            kernel->stored_gemv[part->dtype](block, x, (ha_stored_rows){data, stride}, to);
    }
}

/* y [rows, out] += scale bias */
static void add_bias(const ha_linear *linear, int rows, ha_rows_out y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        kernel->axpy((size_t)linear->out, linear->scale, linear->bias, y.at + r * y.stride);
}

/* Few rows stay in float32: reading the weight takes their time, whatever it is multiplied in. */
static int in_bf16(const ha_linear *linear, int rows)
{
    return linear->weight.compute == HA_COMPUTE_BF16 && rows > FEW_ROWS;
}

/* A part of a float32 weight: `rows` rows of `in` numbers. */
static ha_rows weight_rows(const ha_matrix *part, int in)
{
    return ha_rows_of(part->data, in);
}

void ha_linear_forward(const ha_linear *linear, int rows, ha_rows x, int accumulate, ha_rows_out y)
{
    const int in = linear->in, out = linear->out;
    ha_matmul p = {rows, out, in, linear->scale, accumulate};
    if (rows <= FEW_ROWS) {
        few_rows(p, x, &linear->weight, y);
    } else {
        const ha_matrix *part = &linear->weight;
        for (int from = 0; from < out; from += (int)p.columns, part = part->next) {
            const ha_rows_out to = ha_rows_out_from(y, 0, from);
            p.columns = min(part->rows, out - from);
            if (in_bf16(linear, rows))
                ha_product_bf16(p, ha_view_rows(x), (ha_stored_view){part->dtype, part->data, 1, in}, to);
            else if (part->dtype == HA_F32)
                ha_product(p, ha_view_rows(x), ha_view_transposed(weight_rows(part, in)), to);
            else
                ha_stored_forward(p, x, part, to);
        }
    }
    if (linear->bias)
        add_bias(linear, rows, y);
}

/* dx [rows, in] = (accumulate ? dx : 0) + scale dy W */
static void input_gradient(const ha_linear *linear, int rows, ha_rows dy, int accumulate, ha_rows_out dx)
{
    const int in = linear->in, out = linear->out;
    const ha_matrix *part = &linear->weight;
    ha_matmul p = {rows, in, 0, linear->scale, accumulate};
    for (int from = 0; from < out; from += (int)p.depth, part = part->next, p.accumulate = 1) {
        const ha_rows of_part = ha_rows_from(dy, 0, from);
        p.depth = min(part->rows, out - from);
        if (in_bf16(linear, rows))
            ha_product_bf16(p, ha_view_rows(of_part), (ha_stored_view){part->dtype, part->data, in, 1}, dx);
        else if (part->dtype == HA_F32)
            ha_product(p, ha_view_rows(of_part), ha_view_rows(weight_rows(part, in)), dx);
        else
            ha_stored_backward(p, of_part, part, dx);
    }
}

/* dbias [out] += scale times the sum of dy over rows. Threads share out columns: rows then add up
 * in order whoever does it. */
static void bias_gradient(const ha_linear *linear, int rows, ha_rows dy, float *dbias)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int blocks = blocks_of(linear->out);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int b = 0; b < blocks; b++) {
        int from = b * BLOCK, n = min(linear->out - from, BLOCK);
        for (int r = 0; r < rows; r++)
            kernel->axpy((size_t)n, linear->scale, dy.at + r * dy.stride + from, dbias + from);
    }
}

/* dw [out, in] += scale dy^T x */
static void weight_gradient(const ha_linear *linear, int rows, ha_rows x, ha_rows dy, float *dw)
{
    const ha_matmul p = {linear->out, linear->in, rows, linear->scale, 1};
    const ha_rows_out to = ha_rows_to(dw, linear->in);
    if (in_bf16(linear, rows))
        ha_product_bf16(p, ha_view_transposed(dy), ha_view_stored(ha_view_rows(x)), to);
    else
        ha_product(p, ha_view_transposed(dy), ha_view_rows(x), to);
}

void ha_linear_backward(const ha_linear *linear, int rows, ha_rows x, ha_rows dy, const ha_linear_gradient *gradient)
{
    if (gradient->x.at)
        input_gradient(linear, rows, dy, gradient->accumulate, gradient->x);
    if (gradient->weight)
        weight_gradient(linear, rows, x, dy, gradient->weight);
    if (gradient->bias)
        bias_gradient(linear, rows, dy, gradient->bias);
}
