/* Rotary position embedding (Su et al. 2021) in the rotate-half layout of Hugging Face
 * checkpoints. */
#include <math.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_rope_table(int rows, int half, const int32_t *position, const float *inv_freq, float factor, float *cosine,
                   float *sine)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < half; i++) {
            float angle = (float)position[r] * inv_freq[i]; /* float32 on purpose: checkpoints were trained with it */
            cosine[(ptrdiff_t)r * half + i] = factor * cosf(angle);
            sine[(ptrdiff_t)r * half + i] = factor * sinf(angle);
        }
}

void ha_rope(const ha_rotation *rotation, int rows, int heads, int dim, float sign, ha_rows_out x)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ptrdiff_t half = rotation->half;
    if (half == 0)
        return;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 16)
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < heads; h++)
            kernel->rope((int)half, rotation->cos + r * half, rotation->sin + r * half, sign,
                         x.at + r * x.stride + (ptrdiff_t)h * dim);
}
