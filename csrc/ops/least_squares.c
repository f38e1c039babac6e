/* Ridge regression in closed form: the normal equations by Cholesky, in float64.
 *
 * W = argmin sum_t |x_t W^T - y_t|^2 + lambda |W - start|^2, with lambda = damping times the mean of
 * X^T X's diagonal. Solved for W - start, whose right-hand side is what `start` leaves. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "ops/ops.h"
#include "ops/product.h"

enum { COLUMNS = 32 }; /* right-hand sides that are solved together, so that they stay in L2 */

/* a [n,n], of which the upper triangle is read, becomes U with U^T U = a; HA_BAD_VALUE unless it is
 * positive definite. Rows are updated apart, so the bits do not depend on threads. */
static ha_status factor(int n, double *a)
{
    for (ptrdiff_t k = 0; k < n; k++) {
        double *top = a + k * n;
        if (!(top[k] > 0.0) || !isfinite(top[k]))
            return ha_fail(HA_BAD_VALUE, "least_squares: x is not finite, or damping is too small for it");
        const double inverse = 1.0 / sqrt(top[k]);
        for (ptrdiff_t j = k; j < n; j++)
            top[j] *= inverse;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n - k > 128)
        for (ptrdiff_t i = k + 1; i < n; i++) {
            const double by = top[i];
            double *row = a + i * n;
            for (ptrdiff_t j = i; j < n; j++)
                row[j] -= by * top[j];
        }
    }
    return HA_OK;
}

/* b [n, COLUMNS] becomes the solution of U^T U x = b. */
static void solve(int n, const double *u, double *b)
{
    for (ptrdiff_t k = 0; k < n; k++) {
        double *row = b + k * COLUMNS;
        for (int c = 0; c < COLUMNS; c++)
            row[c] /= u[k * n + k];
        for (ptrdiff_t i = k + 1; i < n; i++)
            for (int c = 0; c < COLUMNS; c++)
                b[i * COLUMNS + c] -= u[k * n + i] * row[c];
    }
    for (ptrdiff_t k = n - 1; k >= 0; k--) {
        double *row = b + k * COLUMNS;
        for (ptrdiff_t i = k + 1; i < n; i++)
            for (int c = 0; c < COLUMNS; c++)
                row[c] -= u[k * n + i] * b[i * COLUMNS + c];
        for (int c = 0; c < COLUMNS; c++)
            row[c] /= u[k * n + k];
    }
}

ha_status ha_least_squares(const ha_regression *r, double damping, const float *start, float *weight, ha_arena *arena)
{
    const int in = r->in, out = r->out, blocks = (out + COLUMNS - 1) / COLUMNS, threads = ha_threads();
    const size_t mark = ha_arena_mark(arena), square = (size_t)in * (size_t)in;
    float *left, *gram, *cross;
    double *a, *scratch, trace = 0.0;
    HA_PUSH(left, arena, (size_t)r->rows * (size_t)out);
    HA_PUSH(gram, arena, square);
    HA_PUSH(cross, arena, (size_t)in * (size_t)out);
    HA_PUSH(a, arena, square);
    HA_PUSH(scratch, arena, (size_t)threads * (size_t)in * COLUMNS);
    const ha_rows x = ha_rows_of(r->x, in);
    ha_matmul residual = ha_matmul_of(r->rows, out, in, 1);
    residual.scale = -1.0f;
    memcpy(left, r->y, (size_t)r->rows * (size_t)out * sizeof *left);
    ha_product(residual, ha_view_rows(x), ha_view_transposed(ha_rows_of(start, in)), ha_rows_to(left, out));
    ha_product(ha_matmul_of(in, in, r->rows, 0), ha_view_transposed(x), ha_view_rows(x), ha_rows_to(gram, in));
    ha_product(ha_matmul_of(in, out, r->rows, 0), ha_view_transposed(x), ha_view_rows(ha_rows_of(left, out)),
               ha_rows_to(cross, out));
    for (size_t i = 0; i < square; i++)
        a[i] = (double)gram[i];
    for (size_t i = 0; i < square; i += (size_t)in + 1)
        trace += a[i];
    for (size_t i = 0; i < square; i += (size_t)in + 1)
        a[i] += damping * (trace > 0.0 ? trace / in : 1.0);
    HA_TRY(factor(in, a));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int block = 0; block < blocks; block++) {
        double *b = scratch + (ptrdiff_t)ha_thread_index() * in * COLUMNS;
        const int first = block * COLUMNS, count = out - first < COLUMNS ? out - first : COLUMNS;
        for (ptrdiff_t i = 0; i < in; i++)
            for (int c = 0; c < COLUMNS; c++)
                b[i * COLUMNS + c] = c < count ? (double)cross[i * out + first + c] : 0.0;
        solve(in, a, b);
        for (int c = 0; c < count; c++)
            for (ptrdiff_t i = 0; i < in; i++) {
                const ptrdiff_t at = (ptrdiff_t)(first + c) * in + i;
                weight[at] = start[at] + (float)b[i * COLUMNS + c];
            }
    }
    ha_arena_release(arena, mark);
    return HA_OK;
}
