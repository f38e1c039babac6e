/* SwiGLU activation (Shazeer 2020): silu(gate) * up. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_swiglu_forward(int rows, int f, const float *gate_up, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (ptrdiff_t)r * 2 * f;
        kernel->silu_mul((size_t)f, gate, gate + f, y + (ptrdiff_t)r * f);
    }
}

void ha_swiglu_backward(int rows, int f, float *gate_up, const float *dy, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        float *gate = gate_up + (ptrdiff_t)r * 2 * f;
        kernel->silu_mul_backward((size_t)f, gate, gate + f, dy + (ptrdiff_t)r * f, gate, gate + f,
                                  y ? y + (ptrdiff_t)r * f : NULL);
    }
}
