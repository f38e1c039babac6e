/* A gated MLP's activation (Shazeer 2020) with any function for the gate: act(gate) * up. */
#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

void ha_glu_forward(ha_act act, int rows, int f, const float *gate_up, float *y)
{
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++) {
        const float *gate = gate_up + (ptrdiff_t)r * 2 * f, *up = gate + f;
        float *to = y + (ptrdiff_t)r * f;
        ha_activate(act, (size_t)f, gate, to);
        for (int i = 0; i < f; i++)
            to[i] *= up[i];
    }
}

void ha_glu_backward(ha_act act, int rows, int f, float *gate_up, const float *dy, float *y)
{
    enum { PIECE = 256 };
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 8)
    for (int r = 0; r < rows; r++)
        for (int at = 0; at < f; at += PIECE) {
            const int n = f - at < PIECE ? f - at : PIECE;
            const float *d = dy + (ptrdiff_t)r * f + at;
            float *gate = gate_up + (ptrdiff_t)r * 2 * f + at, *up = gate + f, open[PIECE], dopen[PIECE];
            ha_activate(act, (size_t)n, gate, open);
            for (int i = 0; i < n; i++)
                dopen[i] = d[i] * up[i];
            if (y)
                for (int i = 0; i < n; i++)
                    y[(ptrdiff_t)r * f + at + i] = open[i] * up[i];
            for (int i = 0; i < n; i++)
                up[i] = d[i] * open[i];
            ha_activate_backward(act, (size_t)n, gate, dopen, gate);
        }
}
