/* Products of many rows with a matrix of 16, 8 or 4 bits, decoded tile by tile on the stack of the thread that uses it.
 *
 * Floor: 2 rows*in*n FLOP at GEMM peak. A tile stays in L2 and is decoded again for every PIECE of rows: some 3% of the
 * product. Every thread does whole pieces in a fixed order, so the result does not depend on how many there are. */
#include "core/blas.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

/* LONG is the side that sums run over, SHORT the side of the result; both are whole blocks of the block types. */
enum { PIECE = 512, LONG = 256, SHORT = 128 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* tile [n, k] = W[row .. row + n, column .. column + k] */
static void decode(const ha_matrix *w, int in, int row, int column, int n, int k, float *tile)
{
    const size_t stride = ha_dtype_bytes(w->dtype, (size_t)in), skip = ha_dtype_bytes(w->dtype, (size_t)column);
    for (int i = 0; i < n; i++)
        ha_kernels_get()->decode[w->dtype]((size_t)k, (const char *)w->data + (size_t)(row + i) * stride + skip,
                                           tile + (ptrdiff_t)i * k);
}

void ha_stored_forward(ha_matmul p, ha_rows x, const ha_matrix *w, ha_rows_out y)
{
    const int rows = (int)p.rows, n = (int)p.columns, in = (int)p.depth;
    const int blocks = (n + SHORT - 1) / SHORT, pieces = (rows + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(dynamic) num_threads(ha_threads())
    for (int t = 0; t < blocks * pieces; t++) {
        float tile[SHORT * LONG] __attribute__((aligned(HA_ALIGN)));
        const int row = t % blocks * SHORT, from = t / blocks * PIECE;
        const int wide = min(n - row, SHORT), m = min(rows - from, PIECE);
        for (int at = 0; at < in; at += LONG) {
            const int k = min(in - at, LONG);
            decode(w, in, row, at, wide, k, tile);
            ha_gemm_alone((ha_matmul){m, wide, k, p.scale, at || p.accumulate}, ha_view_rows(ha_rows_from(x, from, at)),
                          ha_view_transposed(ha_rows_of(tile, k)), ha_rows_out_from(y, from, row));
        }
    }
}

void ha_stored_backward(ha_matmul p, ha_rows dy, const ha_matrix *w, ha_rows_out dx)
{
    const int rows = (int)p.rows, in = (int)p.columns, n = (int)p.depth;
    const int blocks = (in + SHORT - 1) / SHORT, pieces = (rows + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(dynamic) num_threads(ha_threads())
    for (int t = 0; t < blocks * pieces; t++) {
        float tile[LONG * SHORT] __attribute__((aligned(HA_ALIGN)));
        const int column = t % blocks * SHORT, from = t / blocks * PIECE;
        const int wide = min(in - column, SHORT), m = min(rows - from, PIECE);
        for (int at = 0; at < n; at += LONG) {
            const int k = min(n - at, LONG);
            decode(w, in, at, column, k, wide, tile);
            ha_gemm_alone((ha_matmul){m, wide, k, p.scale, at || p.accumulate},
                          ha_view_rows(ha_rows_from(dy, from, at)), ha_view_rows(ha_rows_of(tile, wide)),
                          ha_rows_out_from(dx, from, column));
        }
    }
}
