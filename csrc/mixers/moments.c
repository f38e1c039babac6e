/* What a matrix is multiplied with: its second moments, for rounding it (ops/round_matrix.c), and
 * the rows themselves (distill/trace.c). */
#include <string.h>

#include "mixers/mixer.h"
#include "ops/product.h"

void ha_observe(const ha_pass *pass, size_t offset, int in, const float *x)
{
    float *sum = pass->moments ? pass->moments[ha_params_at(pass->params, offset)] : NULL;
    if (sum)
        ha_product(ha_matmul_of(in, in, pass->batch->rows, 1), ha_view_transposed(ha_rows_of(x, in)),
                   ha_view_rows(ha_rows_of(x, in)), ha_rows_to(sum, in));
    if (pass->seen && pass->watched == offset)
        memcpy(pass->seen, x, (size_t)pass->batch->rows * (size_t)in * sizeof *x);
}
