/* Token embedding: a gather, and its transpose, a scatter-add. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_embed_forward(int rows, int d, const int32_t *token, ha_matrix table, float *x)
{
    const size_t stride = ha_dtype_bytes(table.dtype, (size_t)d);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        ha_kernels_get()->decode[table.dtype]((size_t)d, (const char *)table.data + (size_t)token[r] * stride,
                                              x + (ptrdiff_t)r * d);
}

void ha_embed_add(int rows, int d, const int32_t *index, const float *table, float *x)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        ha_kernels_get()->axpy((size_t)d, 1.0f, table + (ptrdiff_t)index[r] * d, x + (ptrdiff_t)r * d);
}

void ha_scale(size_t n, float factor, float *x)
{
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE)
        for (size_t i = at; i < n && i < at + PIECE; i++)
            x[i] *= factor;
}

void ha_embed_backward(int rows, int d, const int32_t *token, const float *dx, float *dtable)
{
    /* Threads share out columns, not rows: equal tokens then add up in row order whoever does
     * it. */
    enum { COLUMNS = 64 };
    const ha_kernels *kernel = ha_kernels_get();
    int blocks = (d + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int b = 0; b < blocks; b++) {
        int from = b * COLUMNS, n = d - from < COLUMNS ? d - from : COLUMNS;
        for (int r = 0; r < rows; r++)
            kernel->axpy((size_t)n, 1.0f, dx + (ptrdiff_t)r * d + from, dtable + (ptrdiff_t)token[r] * d + from);
    }
}
