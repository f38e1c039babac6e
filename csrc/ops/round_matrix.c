/* Rounding a matrix to a block type so that its products, not its numbers, come out right: GPTQ
 * (arXiv 2210.17323, eq. 2 and section 3.3). Column by column, what rounding did to a number is
 * made up for by the columns that are still to come.
 *
 * Floor: rows*in^2 FLOP of axpys over U, which every row reads once; its upper half stays in L2 or
 * L3. */
#include <math.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

/* The range of a block that loses least, errors in units of what the later columns cannot make up
 * for. Eight bits are left as they are: there the ends cost more than the steps. */
static ha_grid best_grid(ha_dtype type, int in, const float *u, const float *w)
{
    enum { TRIED = 8 };
    const ha_grid whole = ha_grid_of(type, w);
    ha_grid best = whole;
    float least = INFINITY;
    for (int n = 0; n < (type == HA_Q8_0 ? 1 : TRIED); n++) {
        const ha_grid grid = ha_grid_narrowed(whole, 1.0f - 0.05f * (float)n);
        float sum = 0.0f;
        for (int i = 0; i < HA_BLOCK_ITEMS; i++) {
            const float error = (w[i] - ha_grid_value(&grid, ha_grid_code(&grid, w[i]))) / u[(ptrdiff_t)i * (in + 1)];
            sum += error * error;
        }
        if (sum < least) {
            least = sum;
            best = grid;
        }
    }
    return best;
}

/* One row w [in], overwritten, to `to`; u as in ops.h. */
static void round_row(ha_dtype type, int in, const float *u, float *w, uint8_t *to)
{
    const size_t bytes = ha_dtype_bytes(type, HA_BLOCK_ITEMS);
    for (int at = 0; at < in; at += HA_BLOCK_ITEMS, to += bytes) {
        const ha_grid grid = best_grid(type, in, u + (ptrdiff_t)at * (in + 1), w + at);
        int8_t code[HA_BLOCK_ITEMS];
        for (int i = 0; i < HA_BLOCK_ITEMS; i++) {
            const int j = at + i;
            const float *row = u + (ptrdiff_t)j * in;
            code[i] = (int8_t)ha_grid_code(&grid, w[j]);
            const float error = (w[j] - ha_grid_value(&grid, code[i])) / row[j];
            ha_kernels_get()->axpy((size_t)(in - j - 1), -error, row + j + 1, w + j + 1);
        }
        ha_grid_store(&grid, code, to);
    }
}

void ha_round_matrix(int rows, int in, ha_dtype type, const float *u, float *w, void *out)
{
    const size_t stride = ha_dtype_bytes(type, (size_t)in);
#pragma omp parallel for schedule(dynamic) num_threads(ha_threads())
    for (int r = 0; r < rows; r++)
        round_row(type, in, u, w + (ptrdiff_t)r * in, (uint8_t *)out + (size_t)r * stride);
}
