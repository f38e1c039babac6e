/* From the joined projection to the operands of the recurrence, and back. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/projections.h"
#include "mixers/recurrent.h"

static const float TINY = 1e-6f; /* under the root of a length, as fla has it */

ha_layout ha_recurrent_layout(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const ha_heads *own = &mixer->own;
    ha_layout l = {.frame = mixer->kind->frame, .heads = c->num_heads, .dim = c->head_dim, .key_heads = c->num_heads};
    if (own->heads) {
        l.heads = own->heads;
        l.dim = own->dim;
        l.key_heads = own->key_heads;
    }
    l.directions = c->bidirectional ? 2 : 1;
    l.inner = l.heads * l.dim;
    l.query = l.from[1] = l.key_heads * l.dim;
    l.from[2] = 2 * l.query;
    l.mixed = 2 * l.query + l.inner;
    l.conv = mixer->option[HA_OPTION_CONV];
    l.slots = l.frame->slots ? mixer->option[HA_OPTION_SLOTS] : 0;
    l.gated = l.heads * (l.slots ? l.slots : l.dim);
    l.normed = l.frame->norm == HA_OUTPUT_NORM_HEAD ? l.dim : l.inner;
    l.state = (size_t)l.inner * (size_t)(l.slots ? 2 * l.slots : l.dim);
    l.width = l.mixed;
    for (const ha_part *p = l.frame->part; l.n_parts < HA_MAX_PARTS && p[l.n_parts].name; l.n_parts++) {
        int i = l.n_parts;
        l.size[i] = p[i].per == HA_PER_HEAD ? l.heads : p[i].per == HA_PER_SLOT ? l.gated : l.inner;
        l.column[i] = l.width;
        l.width += p[i].rank ? p[i].rank : l.size[i];
    }
    return l;
}

ha_status ha_operands_push(const ha_layout *l, int rows, float *projected, ha_arena *arena, ha_operands *to)
{
    const ha_recurrent *f = l->frame;
    const size_t all = (size_t)rows * (size_t)l->directions;
    const size_t wide = all * (size_t)l->inner, narrow = all * (size_t)l->heads, gated = all * (size_t)l->gated;
    *to = (ha_operands){.qkv = projected, .ldqkv = l->width};
    if (l->conv) {
        to->ldqkv = l->mixed;
        HA_PUSH(to->qkv, arena, (size_t)rows * (size_t)to->ldqkv);
    }
    HA_PUSH(to->q, arena, wide);
    HA_PUSH(to->k, arena, wide);
    HA_PUSH(to->v, arena, wide);
    to->key = to->k;
    if (f->has_key)
        HA_PUSH(to->key, arena, gated);
    if (f->gate != HA_GATE_NONE)
        HA_PUSH(to->g, arena, f->gate == HA_GATE_HEAD ? narrow : gated);
    if (f->form == HA_FORM_DELTA)
        HA_PUSH(to->beta, arena, narrow);
    if (f->form == HA_FORM_ERASE) {
        HA_PUSH(to->a, arena, wide);
        HA_PUSH(to->b, arena, wide);
    }
    for (int i = 0; i < l->n_parts; i++) {
        to->logits[i] = projected + l->column[i];
        to->ld[i] = l->width;
        if (!f->part[i].rank)
            continue;
        to->ld[i] = l->size[i];
        HA_PUSH(to->logits[i], arena, (size_t)rows * (size_t)l->size[i]);
        HA_PUSH(to->low[i], arena, (size_t)rows * (size_t)f->part[i].rank);
    }
    return HA_OK;
}

static ha_token token_at(const ha_layout *l, const ha_operands *x, ptrdiff_t row)
{
    const ptrdiff_t wide = row * l->inner, narrow = row * l->heads, gated = row * l->gated;
    ha_token t = {.heads = l->heads, .dim = l->dim, .gated = l->gated, .k = x->k + wide};
    t.key = l->frame->has_key ? x->key + gated : NULL;
    t.g = x->g ? x->g + (l->frame->gate == HA_GATE_HEAD ? narrow : gated) : NULL;
    t.beta = x->beta ? x->beta + narrow : NULL;
    t.a = x->a ? x->a + wide : NULL;
    t.b = x->b ? x->b + wide : NULL;
    for (int i = 0; i < l->n_parts; i++)
        t.part[i] = x->logits[i] + row * x->ld[i];
    return t;
}

/* Logits of the low-rank parts: f(down) in low, then the product with up. */
static void low_rank_forward(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *projected,
                             ha_operands *to)
{
    const int rows = pass->batch->rows;
    for (int i = 0; i < l->n_parts; i++) {
        const ha_part *p = &l->frame->part[i];
        if (!p->rank)
            continue;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
        for (int r = 0; r < rows; r++)
            ha_activate(p->inner, (size_t)p->rank, projected + (ptrdiff_t)r * l->width + l->column[i],
                        to->low[i] + (ptrdiff_t)r * p->rank);
        const ha_linear up = ha_linear_of(p->rank, l->size[i], ha_projection(mixer, pass, HA_SLOT_UP + i),
                                          ha_weight(mixer, pass, HA_SLOT_BIAS + i));
        ha_linear_forward(&up, rows, ha_rows_of(to->low[i], p->rank), 0, ha_rows_to(to->logits[i], to->ld[i]));
    }
}

static void low_rank_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *projected,
                              const ha_operands *in, ha_operands *d, float *dprojected)
{
    const int rows = pass->batch->rows;
    for (int i = 0; i < l->n_parts; i++) {
        const ha_part *p = &l->frame->part[i];
        /* a part without a low rank has a bias alone */
        const ha_linear up = ha_linear_of(p->rank, l->size[i],
                                          p->rank ? ha_projection(mixer, pass, HA_SLOT_UP + i) : ha_f32(NULL), NULL);
        const ha_linear_gradient gradient = {.x = ha_rows_to(d->low[i], p->rank),
                                             .weight = p->rank ? ha_grad(mixer, pass, HA_SLOT_UP + i) : NULL,
                                             .bias = ha_grad(mixer, pass, HA_SLOT_BIAS + i)};
        ha_linear_backward(&up, rows, ha_rows_of(in->low[i], p->rank), ha_rows_of(d->logits[i], d->ld[i]), &gradient);
        if (!p->rank)
            continue;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
        for (int r = 0; r < rows; r++) {
            const ptrdiff_t at = (ptrdiff_t)r * l->width + l->column[i];
            ha_activate_backward(p->inner, (size_t)p->rank, projected + at, d->low[i] + (ptrdiff_t)r * p->rank,
                                 dprojected + at);
        }
    }
}

static float query_factor(const ha_layout *l)
{
    return l->frame->unscaled ? 1.0f : 1.0f / sqrtf((float)l->dim);
}

ha_status ha_operands_make(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, float *projected,
                           float *const *conv, ha_operands *to)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_short_conv taps = {l->mixed, l->conv, ha_weight(mixer, pass, HA_SLOT_CONV)};
    const ha_recurrent *f = l->frame;
    const int rows = pass->batch->rows, heads = l->heads, dim = l->dim, inner = l->inner;
    const ha_act act = mixer->option[HA_OPTION_SILU] ? HA_ACT_SILU : HA_ACT_NONE;
    const int norm = ha_has_qk_norm(mixer);
    const float shrink = query_factor(l);
    HA_TRY(ha_operands_push(l, rows, projected, pass->arena, to));
    low_rank_forward(mixer, pass, l, projected, to);
    if (l->conv)
        ha_short_conv_forward(&taps, pass->batch, ha_rows_of(projected, l->width), conv,
                              ha_rows_to(to->qkv, to->ldqkv));
    ha_qk_norm(mixer, pass, HA_SLOT_Q_NORM, heads, to->qkv, to->ldqkv, to->q, inner);
    ha_qk_norm(mixer, pass, HA_SLOT_K_NORM, heads, to->qkv + inner, to->ldqkv, to->k, inner);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        float *out[3] = {to->q + (ptrdiff_t)r * inner, to->k + (ptrdiff_t)r * inner, to->v + (ptrdiff_t)r * inner};
        for (int i = 0; i < 3; i++) {
            const float *x = to->qkv + r * to->ldqkv + l->from[i];
            ha_activate(act, (size_t)(i < 2 ? l->query : inner), norm && i < 2 ? out[i] : x, out[i]);
            for (int h = 0; i < 2 && h < l->key_heads; h++) {
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
        ha_rotate(mixer, pass, heads, 1.0f, to->q, inner);
        ha_rotate(mixer, pass, heads, 1.0f, to->k, inner);
    }
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        const ha_token t = token_at(l, to, r);
        if (f->gates)
            f->gates(mixer, pass, &t);
    }
    return HA_OK;
}

/* y = factor r x with r = 1 / sqrt(x . x + tiny): dx = r (factor dy - y (y . dy) / factor); dy in place */
static void length_backward(int dim, const float *y, float inverse, float factor, float *dy)
{
    float along = ha_kernels_get()->dot((size_t)dim, y, dy) / factor;
    for (int j = 0; j < dim; j++)
        dy[j] = inverse * (factor * dy[j] - along * y[j]);
}

/* Row r of q (which = 0), k (1) or v (2): from the gradient dy of the operand to that of what the activation read. */
static void activation_backward(const ha_mixer *mixer, const ha_layout *l, int which, const float *x, const float *y,
                                float *dy, float *dx)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_act act = mixer->option[HA_OPTION_SILU] ? HA_ACT_SILU : HA_ACT_NONE;
    const int dim = l->dim;
    const size_t wide = (size_t)(which < 2 ? l->query : l->inner);
    const float factor = which == 0 ? query_factor(l) : 1.0f;
    if (which < 2 && l->frame->unit)
        ha_activate(act, wide, x, dx); /* scratch until the gradient is written */
    for (int h = 0; which < 2 && h < l->key_heads; h++) {
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

ha_status ha_operands_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_layout *l, const float *projected,
                               ha_operands *in, ha_operands *d, float *dprojected)
{
    const ha_short_conv taps = {l->mixed, l->conv, ha_weight(mixer, pass, HA_SLOT_CONV)};
    const ha_recurrent *f = l->frame;
    const int rows = pass->batch->rows, heads = l->heads, dim = l->dim, inner = l->inner;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const ha_token t = token_at(l, in, r), dt = token_at(l, d, r);
        ha_token_gradient gradient = {.key = dt.key, .g = dt.g, .beta = dt.beta, .a = dt.a, .b = dt.b};
        gradient.k = d->k + (ptrdiff_t)r * inner;
        for (int i = 0; i < l->n_parts; i++)
            gradient.part[i] = d->logits[i] + r * d->ld[i];
        if (f->gates_backward)
            f->gates_backward(mixer, pass, &t, &gradient);
    }
    if (mixer->option[HA_OPTION_ROPE]) {
        ha_rotate(mixer, pass, heads, -1.0f, d->q, inner);
        ha_rotate(mixer, pass, heads, -1.0f, d->k, inner);
        ha_unrotate(mixer, pass, heads, in->q, inner); /* lengths are undone on unrotated q and k */
        ha_unrotate(mixer, pass, heads, in->k, inner);
    }
    float *normed = NULL; /* [rows, 2, inner] q and k as the activation saw them, where that is not `qkv` */
    if (ha_has_qk_norm(mixer))
        HA_PUSH(normed, pass->arena, 2 * (size_t)rows * (size_t)inner);
    ha_qk_norm(mixer, pass, HA_SLOT_Q_NORM, heads, in->qkv, in->ldqkv, normed, 2 * inner);
    ha_qk_norm(mixer, pass, HA_SLOT_K_NORM, heads, in->qkv + inner, in->ldqkv, normed ? normed + inner : NULL,
               2 * inner);
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const ptrdiff_t at = (ptrdiff_t)r * inner;
        float *y[3] = {in->q + at, in->k + at, in->v + at}, *dy[3] = {d->q + at, d->k + at, d->v + at};
        for (int i = 0; i < 3; i++) {
            if (i < 2)
                ha_own_heads_fold(l, y[i], dy[i]);
            activation_backward(mixer, l, i,
                                normed && i < 2 ? normed + 2 * at + i * inner
                                                : in->qkv + r * in->ldqkv + l->from[i],
                                y[i], dy[i], d->qkv + r * d->ldqkv + l->from[i]);
        }
        if (l->conv)
            memset(dprojected + (ptrdiff_t)r * l->width, 0, (size_t)l->mixed * sizeof *dprojected);
    }
    HA_TRY(ha_qk_norm_backward(mixer, pass, HA_SLOT_Q_NORM, heads, in->qkv, in->ldqkv, d->qkv, d->ldqkv));
    HA_TRY(
        ha_qk_norm_backward(mixer, pass, HA_SLOT_K_NORM, heads, in->qkv + inner, in->ldqkv, d->qkv + inner, d->ldqkv));
    if (l->conv)
        ha_short_conv_backward(&taps, pass->batch, ha_rows_of(projected, l->width), ha_rows_of(d->qkv, d->ldqkv),
                               ha_rows_to(dprojected, l->width), ha_grad(mixer, pass, HA_SLOT_CONV));
    low_rank_backward(mixer, pass, l, projected, in, d, dprojected);
    float *da_log = f->decays ? ha_grad(mixer, pass, HA_SLOT_KIND) : NULL;
    const ptrdiff_t n = f->gate == HA_GATE_HEAD ? 1 : dim;
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int h = 0; h < heads; h++) {
        double sum = 0.0; /* dg / dA_log = g */
        for (ptrdiff_t r = 0; da_log && r < rows; r++)
            for (ptrdiff_t i = (r * heads + h) * n, end = i + n; i < end; i++)
                sum += (double)d->g[i] * (double)in->g[i];
        if (da_log)
            da_log[h] += (float)sum;
    }
    return HA_OK;
}

static int decays_per_head(const ha_mixer *mixer)
{
    const ha_recurrent *f = mixer->kind->frame;
    return f->gate == HA_GATE_HEAD ? 1 : mixer->config->head_dim;
}

void ha_decay_init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    const ha_part *part = ((const ha_recurrent *)mixer->kind->frame)->part;
    int decay = 0; /* the part that makes it */
    while (!part[decay].bias)
        decay++;
    float *a_log = weights + mixer->at[HA_SLOT_KIND], *bias = weights + mixer->at[HA_SLOT_BIAS + decay];
    const int heads = ha_recurrent_layout(mixer).heads;
    for (int h = 0, n = decays_per_head(mixer); h < heads; h++, bias += n) {
        for (int i = 0; i < n; i++) {
            double step = exp(ha_rng_uniform(rng) * log(100.0) + log(0.001));
            bias[i] = (float)(step + log(-expm1(-step)));
        }
        a_log[h] = (float)log(1.0 + 15.0 * ha_rng_uniform(rng));
    }
}

float ha_softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

void ha_decay_gates(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    const int n = decays_per_head(mixer);
    ha_activate(HA_ACT_SIGMOID, (size_t)t->heads, t->part[HA_PART_BETA], t->beta);
    for (int h = 0; h < t->heads; h++) {
        const float rate = -expf(a_log[h]);
        for (int i = h * n; i < (h + 1) * n; i++)
            t->g[i] = rate * ha_softplus(t->part[HA_PART_DECAY][i]);
    }
}

void ha_decay_gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    const int n = decays_per_head(mixer);
    ha_activate_backward(HA_ACT_SIGMOID, (size_t)t->heads, t->part[HA_PART_BETA], d->beta, d->part[HA_PART_BETA]);
    for (int h = 0; h < t->heads; h++) {
        const float rate = -expf(a_log[h]);
        for (int i = h * n; i < (h + 1) * n; i++)
            d->part[HA_PART_DECAY][i] = d->g[i] * rate / (1.0f + expf(-t->part[HA_PART_DECAY][i]));
    }
}
