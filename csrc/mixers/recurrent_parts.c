#include "mixers/recurrent_parts.h"

#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/own_heads.h"
#include "mixers/projections.h"

static const float TINY = 1e-6f; /* under the root of a length, as fla has it */

ha_status ha_recurrent_operands_push(const ha_recurrent_layout *l, int rows, float *projected, ha_arena *arena,
                                     ha_recurrent_operands *to)
{
    const ha_recurrent *f = l->frame;
    const size_t all = (size_t)rows * (size_t)l->directions;
    const size_t kept = all * (size_t)l->kept, narrow = all * (size_t)l->kv_heads, gated = all * (size_t)l->gated;
    *to = (ha_recurrent_operands){.qkv = projected, .qkv_stride = l->width};
    if (l->conv) {
        to->qkv_stride = l->mixed;
        HA_PUSH(to->qkv, arena, (size_t)rows * (size_t)to->qkv_stride);
    }
    HA_PUSH(to->queries, arena, all * (size_t)l->inner);
    HA_PUSH(to->keys, arena, kept);
    HA_PUSH(to->values, arena, kept);
    to->written = to->keys;
    if (f->writes_own)
        HA_PUSH(to->written, arena, gated);
    if (f->gate != HA_GATE_NONE)
        HA_PUSH(to->log_decay, arena, f->gate == HA_GATE_HEAD ? narrow : gated);
    if (f->form == HA_FORM_DELTA)
        HA_PUSH(to->beta, arena, narrow);
    if (f->form == HA_FORM_ERASE) {
        HA_PUSH(to->erase_write, arena, kept);
        HA_PUSH(to->erase_read, arena, kept);
    }
    for (int i = 0; i < l->n_parts; i++) {
        to->logits[i] = projected + l->column[i];
        to->logit_stride[i] = l->width;
        if (!l->rank[i])
            continue;
        to->logit_stride[i] = l->size[i];
        HA_PUSH(to->logits[i], arena, (size_t)rows * (size_t)l->size[i]);
        HA_PUSH(to->low[i], arena, (size_t)rows * (size_t)l->rank[i]);
    }
    return HA_OK;
}

static ha_recurrent_token token_at(const ha_recurrent_layout *l, const ha_recurrent_operands *x, ptrdiff_t row)
{
    const ptrdiff_t kept = row * l->kept, narrow = row * l->kv_heads, gated = row * l->gated;
    ha_recurrent_token t = {.heads = l->kv_heads, .dim = l->dim, .gated = l->gated, .keys = x->keys + kept};
    t.written = l->frame->writes_own ? x->written + gated : NULL;
    t.log_decay = x->log_decay ? x->log_decay + (l->frame->gate == HA_GATE_HEAD ? narrow : gated) : NULL;
    t.beta = x->beta ? x->beta + narrow : NULL;
    t.erase_write = x->erase_write ? x->erase_write + kept : NULL;
    t.erase_read = x->erase_read ? x->erase_read + kept : NULL;
    for (int i = 0; i < l->n_parts; i++)
        t.part[i] = x->logits[i] + row * x->logit_stride[i];
    return t;
}

/* Logits of the low-rank parts: f(down) in low, then the product with up. */
static void low_rank_forward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                             const float *projected, ha_recurrent_operands *to)
{
    const int rows = pass->batch->rows;
    for (int i = 0; i < l->n_parts; i++) {
        const int rank = l->rank[i];
        if (!rank)
            continue;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
        for (int r = 0; r < rows; r++)
            ha_activate(l->frame->part[i].inner, (size_t)rank, projected + (ptrdiff_t)r * l->width + l->column[i],
                        to->low[i] + (ptrdiff_t)r * rank);
        ha_observe(pass, mixer->at[HA_SLOT_UP + i], rank, to->low[i]);
        const ha_linear up = ha_linear_of(rank, l->size[i], ha_projection(mixer, pass, HA_SLOT_UP + i),
                                          ha_weight(mixer, pass, HA_SLOT_BIAS + i));
        ha_linear_forward(&up, rows, ha_rows_of(to->low[i], rank), 0, ha_rows_to(to->logits[i], to->logit_stride[i]));
    }
}

static void low_rank_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                              const float *projected, const ha_recurrent_operands *in, ha_recurrent_operands *d,
                              float *dprojected)
{
    const int rows = pass->batch->rows;
    for (int i = 0; i < l->n_parts; i++) {
        const int rank = l->rank[i];
        /* a part without a low rank has a bias alone */
        const ha_linear up =
            ha_linear_of(rank, l->size[i], rank ? ha_projection(mixer, pass, HA_SLOT_UP + i) : ha_f32(NULL), NULL);
        const ha_linear_gradient gradient = {.x = ha_rows_to(d->low[i], rank),
                                             .weight = rank ? ha_grad(mixer, pass, HA_SLOT_UP + i) : NULL,
                                             .bias = ha_grad(mixer, pass, HA_SLOT_BIAS + i)};
        ha_linear_backward(&up, rows, ha_rows_of(in->low[i], rank), ha_rows_of(d->logits[i], d->logit_stride[i]),
                           &gradient);
        if (!rank)
            continue;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
        for (int r = 0; r < rows; r++) {
            const ptrdiff_t at = (ptrdiff_t)r * l->width + l->column[i];
            ha_activate_backward(l->frame->part[i].inner, (size_t)rank, projected + at, d->low[i] + (ptrdiff_t)r * rank,
                                 dprojected + at);
        }
    }
}

static float query_factor(const ha_recurrent_layout *l)
{
    return l->frame->unscaled ? 1.0f : 1.0f / sqrtf((float)l->dim);
}

ha_status ha_recurrent_operands_make(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                     float *projected, float *const *conv, ha_recurrent_operands *to)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_short_conv taps = {l->mixed, l->conv, ha_weight(mixer, pass, HA_SLOT_CONV)};
    const ha_recurrent *f = l->frame;
    const int rows = pass->batch->rows, dim = l->dim, inner = l->inner;
    const ha_act act = mixer->option[HA_OPTION_SILU] ? HA_ACT_SILU : HA_ACT_NONE;
    const int norm = ha_has_qk_norm(mixer);
    const float shrink = query_factor(l);
    HA_TRY(ha_recurrent_operands_push(l, rows, projected, pass->arena, to));
    low_rank_forward(mixer, pass, l, projected, to);
    if (l->conv)
        ha_short_conv_forward(&taps, pass->batch, ha_rows_of(projected, l->width), conv,
                              ha_rows_to(to->qkv, to->qkv_stride));
    ha_qk_norm(mixer, pass, HA_SLOT_Q_NORM, l->heads, to->qkv, to->qkv_stride, to->queries, inner);
    ha_qk_norm(mixer, pass, HA_SLOT_K_NORM, l->kv_heads, to->qkv + l->from[1], to->qkv_stride, to->keys, l->kept);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        float *out[3] = {to->queries + (ptrdiff_t)r * inner, to->keys + (ptrdiff_t)r * l->kept,
                         to->values + (ptrdiff_t)r * l->kept};
        for (int i = 0; i < 3; i++) {
            const float *x = to->qkv + r * to->qkv_stride + l->from[i];
            ha_activate(act, (size_t)l->across[i], norm && i < 2 ? out[i] : x, out[i]);
            for (int h = 0; i < 2 && h < l->across[i] / dim; h++) {
                float *y = out[i] + (ptrdiff_t)h * dim;
                float factor = f->unit ? 1.0f / sqrtf(kernel->dot((size_t)dim, y, y) + TINY) : 1.0f;
                factor *= i == 0 ? shrink : 1.0f;
                for (int j = 0; j < dim; j++)
                    y[j] *= factor;
            }
            if (i < 2)
                ha_own_heads_repeat(l, out[i]);
        }
    }
    if (mixer->option[HA_OPTION_ROPE]) {
        ha_rotate(mixer, pass, l->heads, 1.0f, to->queries, inner);
        ha_rotate(mixer, pass, l->kv_heads, 1.0f, to->keys, l->kept);
    }
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        const ha_recurrent_token t = token_at(l, to, r);
        if (f->gates)
            f->gates(mixer, pass, &t);
    }
    return HA_OK;
}

/* y = factor r x with r = 1 / sqrt(x . x + tiny): dx = r (factor dy - y (y . dy) / factor); dy in
 * place */
static void length_backward(int dim, const float *y, float inverse, float factor, float *dy)
{
    float along = ha_kernels_get()->dot((size_t)dim, y, dy) / factor;
    for (int j = 0; j < dim; j++)
        dy[j] = inverse * (factor * dy[j] - along * y[j]);
}

/* Row r of q (which = 0), k (1) or v (2): from the gradient dy of the operand to that of what the
 * activation read. */
static void activation_backward(const ha_mixer *mixer, const ha_recurrent_layout *l, int which, const float *x,
                                const float *y, float *dy, float *dx)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_act act = mixer->option[HA_OPTION_SILU] ? HA_ACT_SILU : HA_ACT_NONE;
    const int dim = l->dim;
    const size_t wide = (size_t)l->across[which];
    const float factor = which == 0 ? query_factor(l) : 1.0f;
    if (which < 2 && l->frame->unit)
        ha_activate(act, wide, x, dx); /* scratch until the gradient is written */
    for (int h = 0; which < 2 && h < l->across[which] / dim; h++) {
        const ptrdiff_t at = (ptrdiff_t)h * dim;
        if (l->frame->unit)
            length_backward(dim, y + at, 1.0f / sqrtf(kernel->dot((size_t)dim, dx + at, dx + at) + TINY), factor,
                            dy + at);
        else
            for (int j = 0; j < dim; j++)
                dy[at + j] *= factor;
    }
    ha_activate_backward(act, wide, x, dy, dx);
}

ha_status ha_recurrent_operands_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                         const float *projected, ha_recurrent_operands *in, ha_recurrent_operands *d,
                                         float *dprojected)
{
    const ha_short_conv taps = {l->mixed, l->conv, ha_weight(mixer, pass, HA_SLOT_CONV)};
    const ha_recurrent *f = l->frame;
    const int rows = pass->batch->rows, heads = l->heads, kv_heads = l->kv_heads, inner = l->inner, kept = l->kept;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const ha_recurrent_token t = token_at(l, in, r), dt = token_at(l, d, r);
        ha_recurrent_token_gradient gradient = {.written = dt.written,
                                                .log_decay = dt.log_decay,
                                                .beta = dt.beta,
                                                .erase_write = dt.erase_write,
                                                .erase_read = dt.erase_read};
        gradient.keys = d->keys + (ptrdiff_t)r * kept;
        for (int i = 0; i < l->n_parts; i++)
            gradient.part[i] = d->logits[i] + r * d->logit_stride[i];
        if (f->gates_backward)
            f->gates_backward(mixer, pass, &t, &gradient);
    }
    if (mixer->option[HA_OPTION_ROPE]) {
        ha_rotate(mixer, pass, heads, -1.0f, d->queries, inner);
        ha_rotate(mixer, pass, kv_heads, -1.0f, d->keys, kept);
        ha_unrotate(mixer, pass, heads, in->queries, inner); /* lengths are undone on unrotated q and k */
        ha_unrotate(mixer, pass, kv_heads, in->keys, kept);
    }
    const int both = inner + kept;
    float *normed = NULL; /* [rows, both] q and k as the activation saw them, where that is not `qkv` */
    if (ha_has_qk_norm(mixer))
        HA_PUSH(normed, pass->arena, (size_t)rows * (size_t)both);
    ha_qk_norm(mixer, pass, HA_SLOT_Q_NORM, heads, in->qkv, in->qkv_stride, normed, both);
    ha_qk_norm(mixer, pass, HA_SLOT_K_NORM, kv_heads, in->qkv + l->from[1], in->qkv_stride,
               normed ? normed + inner : NULL, both);
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * inner, to = (ptrdiff_t)r * kept;
        float *y[3] = {in->queries + at, in->keys + to, in->values + to},
              *dy[3] = {d->queries + at, d->keys + to, d->values + to};
        for (int i = 0; i < 3; i++) {
            if (i < 2)
                ha_own_heads_fold(l, y[i], dy[i]);
            activation_backward(
                mixer, l, i, normed && i < 2 ? normed + at + to + i * inner : in->qkv + r * in->qkv_stride + l->from[i],
                y[i], dy[i], d->qkv + r * d->qkv_stride + l->from[i]);
        }
        if (l->conv)
            memset(dprojected + (ptrdiff_t)r * l->width, 0, (size_t)l->mixed * sizeof *dprojected);
    }
    HA_TRY(ha_qk_norm_backward(mixer, pass, HA_SLOT_Q_NORM, heads, in->qkv, in->qkv_stride, d->qkv, d->qkv_stride));
    HA_TRY(ha_qk_norm_backward(mixer, pass, HA_SLOT_K_NORM, kv_heads, in->qkv + l->from[1], in->qkv_stride,
                               d->qkv + l->from[1], d->qkv_stride));
    if (l->conv)
        ha_short_conv_backward(&taps, pass->batch, ha_rows_of(projected, l->width), ha_rows_of(d->qkv, d->qkv_stride),
                               ha_rows_to(dprojected, l->width), ha_grad(mixer, pass, HA_SLOT_CONV));
    low_rank_backward(mixer, pass, l, projected, in, d, dprojected);
    float *da_log = f->decays ? ha_grad(mixer, pass, HA_SLOT_KIND) : NULL;
    const ptrdiff_t n = f->gate == HA_GATE_HEAD ? 1 : l->dim;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int h = 0; h < kv_heads; h++) {
        double sum = 0.0; /* dg / dA_log = g */
        for (ptrdiff_t r = 0; da_log && r < rows; r++)
            for (ptrdiff_t i = (r * kv_heads + h) * n, end = i + n; i < end; i++)
                sum += (double)d->log_decay[i] * (double)in->log_decay[i];
        if (da_log)
            da_log[h] += (float)sum;
    }
    return HA_OK;
}
