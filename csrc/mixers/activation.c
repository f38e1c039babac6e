#include "mixers/activation.h"

#include <string.h>

#include "kernels/kernels.h"

enum { PIECE = 256 };

void ha_activate(ha_activation f, size_t n, const float *x, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
    if (f == HA_SILU)
        kernel->silu(n, x, y);
    else if (f == HA_SIGMOID)
        kernel->sigmoid(n, x, y);
    else if (f == HA_TANH) { /* 2 sigmoid(2x) - 1 */
        for (size_t i = 0; i < n; i++)
            y[i] = 2.0f * x[i];
        kernel->sigmoid(n, y, y);
        for (size_t i = 0; i < n; i++)
            y[i] = 2.0f * y[i] - 1.0f;
    } else if (f == HA_RELU) {
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] > 0.0f ? x[i] : 0.0f;
    } else if (y != x)
        memmove(y, x, n * sizeof *x);
}

void ha_activate_backward(ha_activation f, size_t n, const float *x, const float *dy, float *dx)
{
    float y[PIECE];
    if (f == HA_SILU)
        ha_kernels_get()->silu_backward(n, x, dy, dx);
    else if (f == HA_LINEAR && dx != dy)
        memmove(dx, dy, n * sizeof *x);
    for (size_t i = 0; f == HA_RELU && i < n; i++)
        dx[i] = x[i] > 0.0f ? dy[i] : 0.0f;
    for (size_t at = 0; (f == HA_SIGMOID || f == HA_TANH) && at < n; at += PIECE) {
        size_t m = n - at < PIECE ? n - at : PIECE;
        ha_activate(f, m, x + at, y);
        for (size_t i = 0; i < m; i++)
            dx[at + i] = dy[at + i] * (f == HA_TANH ? 1.0f - y[i] * y[i] : y[i] * (1.0f - y[i]));
    }
}
