#include "mixers/recurrent_output.h"

#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"

/* One row: y = norm(o) f(gate), or norm(o f(gate)) where the gate comes first; without a norm or a
 * gate that factor is left out. f(gate) is left in `open` [inner], and what the last of the two
 * steps reads in `n` [inner]. */
static void output_row(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *o,
                       const float *gate, float *n, float *open, float *y)
{
    const ha_recurrent *f = l->frame;
    const float *norm = ha_weight(mixer, pass, HA_SLOT_NORM), eps = mixer->config->norm_eps;
    if (l->has_gate)
        ha_activate(f->output, (size_t)l->inner, gate, open);
    if (l->gate_first)
        for (int i = 0; i < l->inner; i++)
            n[i] = o[i] * open[i];
    else if (!f->norm)
        memcpy(n, o, (size_t)l->inner * sizeof *n);
    for (int i = 0; f->norm && i < l->inner; i += l->normed)
        ha_kernels_get()->rms_norm(l->normed, l->gate_first ? n + i : o + i, norm, eps, l->gate_first ? y + i : n + i);
    for (int i = 0; !l->gate_first && i < l->inner; i++)
        y[i] = l->has_gate ? n[i] * open[i] : n[i];
}

ha_status ha_recurrent_output(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *o,
                              const ha_recurrent_operands *in, float *y)
{
    const size_t mark = ha_arena_mark(pass->arena);
    const int threads = ha_threads(), inner = l->inner;
    float *scratch;
    HA_PUSH(scratch, pass->arena, 2 * (size_t)threads * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(threads) if (pass->batch->rows > 4)
    for (int r = 0; r < pass->batch->rows; r++) {
        float *n = scratch + 2 * (ptrdiff_t)ha_thread_index() * inner;
        output_row(mixer, pass, l, o + (ptrdiff_t)r * inner, in->logits[0] + r * in->logit_stride[0], n, n + inner,
                   y + (ptrdiff_t)r * inner);
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* dx [rows, inner] += the gradient of what the norm read, x [rows, inner], from that of its output,
 * dy [rows, inner] */
static ha_status norm_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *x,
                               const float *dy, float *dx)
{
    const ha_row_norm norm = {l->normed, ha_weight(mixer, pass, HA_SLOT_NORM), NULL, mixer->config->norm_eps};
    return ha_rms_norm_backward(&norm, pass->batch->rows * (l->inner / l->normed), ha_rows_of(x, l->normed),
                                ha_rows_of(dy, l->normed), ha_rows_to(dx, l->normed),
                                ha_grad(mixer, pass, HA_SLOT_NORM), pass->arena);
}

/* norm(o) f(gate) */
static ha_status norm_then_gate(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                const float *o, const ha_recurrent_operands *in, const float *dy, float *d_o,
                                const ha_recurrent_operands *d)
{
    const int threads = ha_threads(), rows = pass->batch->rows, inner = l->inner;
    float *scratch, *dn;
    HA_PUSH(scratch, pass->arena, 3 * (size_t)threads * (size_t)inner);
    HA_PUSH(dn, pass->arena, (size_t)rows * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * inner;
        float *n = scratch + 3 * (ptrdiff_t)ha_thread_index() * inner, *open = n + inner, *y = open + inner;
        output_row(mixer, pass, l, o + at, in->logits[0] + r * in->logit_stride[0], n, open, y);
        for (int i = 0; i < inner; i++) {
            dn[at + i] = l->has_gate ? dy[at + i] * open[i] : dy[at + i];
            n[i] *= dy[at + i];
            d_o[at + i] = l->frame->norm ? 0.0f : dn[at + i];
        }
        if (l->has_gate)
            ha_activate_backward(l->frame->output, (size_t)inner, in->logits[0] + r * in->logit_stride[0], n,
                                 d->logits[0] + r * d->logit_stride[0]);
    }
    if (!l->frame->norm)
        return HA_OK;
    return norm_backward(mixer, pass, l, o, dn, d_o);
}

/* norm(o f(gate)) */
static ha_status gate_then_norm(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                const float *o, const ha_recurrent_operands *in, const float *dy, float *d_o,
                                const ha_recurrent_operands *d)
{
    const int threads = ha_threads(), rows = pass->batch->rows, inner = l->inner;
    float *scratch, *n, *dn;
    HA_PUSH(scratch, pass->arena, (size_t)threads * (size_t)inner);
    HA_PUSH(n, pass->arena, (size_t)rows * (size_t)inner);
    HA_PUSH(dn, pass->arena, (size_t)rows * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * inner;
        float *open = scratch + (ptrdiff_t)ha_thread_index() * inner;
        ha_activate(l->frame->output, (size_t)inner, in->logits[0] + r * in->logit_stride[0], open);
        for (int i = 0; i < inner; i++)
            n[at + i] = o[at + i] * open[i];
        memset(dn + at, 0, (size_t)inner * sizeof *dn);
    }
    HA_TRY(norm_backward(mixer, pass, l, n, dy, dn));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * inner;
        float *open = scratch + (ptrdiff_t)ha_thread_index() * inner;
        const float *gate = in->logits[0] + r * in->logit_stride[0];
        ha_activate(l->frame->output, (size_t)inner, gate, open);
        for (int i = 0; i < inner; i++) {
            d_o[at + i] = dn[at + i] * open[i];
            dn[at + i] *= o[at + i];
        }
        ha_activate_backward(l->frame->output, (size_t)inner, gate, dn + at, d->logits[0] + r * d->logit_stride[0]);
    }
    return HA_OK;
}

ha_status ha_recurrent_output_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                       const float *o, const ha_recurrent_operands *in, const float *dy, float *d_o,
                                       const ha_recurrent_operands *d)
{
    const size_t mark = ha_arena_mark(pass->arena);
    HA_TRY((l->gate_first ? gate_then_norm : norm_then_gate)(mixer, pass, l, o, in, dy, d_o, d));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
