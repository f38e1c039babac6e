#include "mixers/attention_gate.h"

#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "ops/ops.h"

enum { SLOT_GATE = HA_SLOT_OWN, SLOT_GATE_BIAS };

ha_status ha_gate_declare(ha_mixer *mixer, const char *prefix, int layer, int aligns, ha_params *params)
{
    const ha_config *c = mixer->config;
    if (!c->attention_gate)
        return HA_OK;
    const ha_param matrix = {.group = HA_GROUP_MIXER,
                             .layer = layer,
                             .aligns = aligns,
                             .matrix = 1,
                             .ndim = 2,
                             .shape = {ha_inner(mixer), c->hidden_size}};
    const ha_param vector = {
        .group = HA_GROUP_MIXER, .layer = layer, .aligns = aligns, .ndim = 1, .shape = {ha_inner(mixer)}};
    HA_TRY(ha_params_add(params, prefix, "g_proj.weight", &matrix, &mixer->at[SLOT_GATE]));
    if (c->attention_bias)
        HA_TRY(ha_params_add(params, prefix, "g_proj.bias", &vector, &mixer->at[SLOT_GATE_BIAS]));
    return HA_OK;
}

void ha_gate_transfer(const ha_mixer *mixer, const ha_mixer *softmax, float *weights)
{
    const size_t inner = (size_t)ha_inner(mixer), d = (size_t)mixer->config->hidden_size;
    if (mixer->at[SLOT_GATE] != HA_NONE)
        memcpy(weights + mixer->at[SLOT_GATE], weights + softmax->at[SLOT_GATE], inner * d * sizeof *weights);
    if (mixer->at[SLOT_GATE_BIAS] != HA_NONE)
        memcpy(weights + mixer->at[SLOT_GATE_BIAS], weights + softmax->at[SLOT_GATE_BIAS], inner * sizeof *weights);
}

size_t ha_gate_saved(const ha_mixer *mixer, int rows)
{
    return mixer->config->attention_gate ? (size_t)rows * (size_t)ha_inner(mixer) : 0;
}

static float open_share(float logit)
{
    return 1.0f / (1.0f + expf(-logit));
}

ha_status ha_gate_again(const ha_mixer *mixer, const ha_pass *pass, float *y, const float *logits, float **gated)
{
    const int rows = pass->batch->rows, inner = ha_inner(mixer);
    *gated = y;
    if (!mixer->config->attention_gate)
        return HA_OK;
    float *to;
    HA_PUSH(to, pass->arena, (size_t)rows * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++)
        for (ptrdiff_t i = (ptrdiff_t)r * inner, end = i + inner; i < end; i++)
            to[i] = y[i] * open_share(logits[i]);
    *gated = to;
    return HA_OK;
}

ha_status ha_gate_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *y, float *logits,
                          float **gated)
{
    const int inner = ha_inner(mixer), d = mixer->config->hidden_size;
    if (mixer->config->attention_gate) {
        ha_observe(pass, mixer->at[SLOT_GATE], d, x);
        const ha_linear gate =
            ha_linear_of(d, inner, ha_projection(mixer, pass, SLOT_GATE), ha_weight(mixer, pass, SLOT_GATE_BIAS));
        ha_linear_forward(&gate, pass->batch->rows, ha_rows_of(x, d), 0, ha_rows_to(logits, inner));
    }
    return ha_gate_again(mixer, pass, y, logits, gated);
}

ha_status ha_gate_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *y,
                           const float *logits, float *dy, float *dx)
{
    const int rows = pass->batch->rows, inner = ha_inner(mixer), d = mixer->config->hidden_size;
    const size_t mark = ha_arena_mark(pass->arena);
    float *dlogits;
    if (!mixer->config->attention_gate)
        return HA_OK;
    HA_PUSH(dlogits, pass->arena, (size_t)rows * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++)
        for (ptrdiff_t i = (ptrdiff_t)r * inner, end = i + inner; i < end; i++) {
            const float open = open_share(logits[i]);
            dlogits[i] = dy[i] * y[i] * open * (1.0f - open);
            dy[i] *= open;
        }
    const ha_linear gate = ha_linear_of(d, inner, ha_projection(mixer, pass, SLOT_GATE), NULL);
    const ha_linear_gradient gradient = {.x = ha_rows_to(dx, d),
                                         .accumulate = 1,
                                         .weight = ha_grad(mixer, pass, SLOT_GATE),
                                         .bias = ha_grad(mixer, pass, SLOT_GATE_BIAS)};
    ha_linear_backward(&gate, rows, ha_rows_of(x, d), ha_rows_of(dlogits, inner), &gradient);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

double ha_gate_flops(const ha_mixer *mixer)
{
    return mixer->config->attention_gate ? 2.0 * mixer->config->hidden_size * ha_inner(mixer) : 0.0;
}
