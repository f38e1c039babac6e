#include "mixers/projections.h"

#include <string.h>

#include "ops/ops.h"

ha_status ha_declare_projections(ha_mixer *mixer, const char *prefix, int layer, int kv_heads, int aligns,
                                 const ha_joined *joined, int n_joined, ha_params *params)
{
    const ha_config *c = mixer->config;
    const int q = c->num_heads * c->head_dim, kv = kv_heads * c->head_dim, d = c->hidden_size;
    const struct {
        const char *weight, *bias;
        int rows;
    } main[] = {{"q_proj.weight", "q_proj.bias", q},
                {"k_proj.weight", "k_proj.bias", kv},
                {"v_proj.weight", "v_proj.bias", kv}};
    size_t at;
    mixer->projections_align = aligns;
    for (int i = 0; i < HA_MAX_SLOTS; i++)
        mixer->at[i] = HA_NONE;
    for (int i = 0; i < 3; i++) {
        HA_TRY(ha_params_add(params, prefix, main[i].weight, HA_GROUP_MIXER, layer, aligns, i > 0, 2, main[i].rows, d,
                             0, &at));
        ha_params_mark_matrix(params);
        if (i == 0)
            mixer->at[HA_SLOT_QKV] = at;
    }
    for (int i = 0; i < n_joined; i++) {
        HA_TRY(ha_params_add(params, prefix, joined[i].name, HA_GROUP_MIXER, layer, aligns, 1, 2, joined[i].rows, d, 0,
                             &at));
        ha_params_mark_matrix(params);
    }
    for (int i = 0; c->attention_bias && i < 3; i++) {
        HA_TRY(ha_params_add(params, prefix, main[i].bias, HA_GROUP_MIXER, layer, aligns, i > 0, 1, main[i].rows, 0, 0,
                             &at));
        if (i == 0)
            mixer->at[HA_SLOT_QKV_BIAS] = at;
    }
    HA_TRY(ha_params_add(params, prefix, "o_proj.weight", HA_GROUP_MIXER, layer, aligns, 0, 2, d, q, 0,
                         &mixer->at[HA_SLOT_O]));
    ha_params_mark_matrix(params);
    if (c->output_bias)
        HA_TRY(ha_params_add(params, prefix, "o_proj.bias", HA_GROUP_MIXER, layer, aligns, 0, 1, d, 0, 0,
                             &mixer->at[HA_SLOT_O_BIAS]));
    return HA_OK;
}

/* `heads` blocks of `block` floats from as many or fewer: block h comes from h / (heads / from_heads). */
static void copy_heads(float *to, int heads, const float *from, int from_heads, size_t block)
{
    for (int h = 0; h < heads; h++)
        memcpy(to + (size_t)h * block, from + (size_t)(h / (heads / from_heads)) * block, block * sizeof *to);
}

void ha_transfer_projections(const ha_mixer *mixer, const ha_mixer *softmax, int kv_heads, float *weights)
{
    const ha_config *c = mixer->config;
    const size_t d = (size_t)c->hidden_size, dim = (size_t)c->head_dim;
    for (int bias = 0; bias <= c->attention_bias; bias++) {
        int slot = bias ? HA_SLOT_QKV_BIAS : HA_SLOT_QKV;
        size_t block = bias ? dim : dim * d;
        float *to = weights + mixer->at[slot];
        const float *from = weights + softmax->at[slot];
        copy_heads(to, c->num_heads, from, c->num_heads, block);
        for (int kv = 0; kv < 2; kv++)
            copy_heads(to + (size_t)(c->num_heads + kv * kv_heads) * block, kv_heads,
                       from + (size_t)(c->num_heads + kv * c->num_kv_heads) * block, c->num_kv_heads, block);
    }
    memcpy(weights + mixer->at[HA_SLOT_O], weights + softmax->at[HA_SLOT_O],
           d * dim * (size_t)c->num_heads * sizeof *weights);
    if (c->output_bias)
        memcpy(weights + mixer->at[HA_SLOT_O_BIAS], weights + softmax->at[HA_SLOT_O_BIAS], d * sizeof *weights);
}

void ha_unrotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float *x, ptrdiff_t ldx)
{
    const int rows = pass->batch->rows, dim = mixer->config->head_dim;
    const float factor = mixer->config->rope_factor, inverse = 1.0f / (factor * factor);
    ha_rope(rows, heads, dim / 2, pass->cos, pass->sin, -1.0f, x, ldx);
    for (int r = 0; factor != 1.0f && r < rows; r++)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)heads * dim; i++)
            x[r * ldx + i] *= inverse; /* both tables carry the factor */
}

static int qkv_width(const ha_config *c)
{
    return (c->num_heads + 2 * c->num_kv_heads) * c->head_dim;
}

void ha_project_in(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *qkv)
{
    const int d = mixer->config->hidden_size, width = qkv_width(mixer->config);
    ha_linear_forward(pass->batch->rows, d, width, 1.0f, x, d, ha_projection(mixer, pass, HA_SLOT_QKV),
                      ha_weight(mixer, pass, HA_SLOT_QKV_BIAS), 0.0f, qkv, width);
}

void ha_project_in_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *dqkv, float *dx)
{
    const int d = mixer->config->hidden_size, width = qkv_width(mixer->config);
    ha_linear_backward(pass->batch->rows, d, width, 1.0f, x, d, ha_projection(mixer, pass, HA_SLOT_QKV), dqkv, width,
                       1.0f, dx, d, ha_grad(mixer, pass, HA_SLOT_QKV), ha_grad(mixer, pass, HA_SLOT_QKV_BIAS));
}

void ha_project_out(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, float *out)
{
    const ha_config *c = mixer->config;
    const int width = c->num_heads * c->head_dim, d = c->hidden_size;
    ha_linear_forward(pass->batch->rows, width, d, scale, y, width, ha_projection(mixer, pass, HA_SLOT_O),
                      ha_weight(mixer, pass, HA_SLOT_O_BIAS), 1.0f, out, d);
}

void ha_project_out_backward(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, const float *dout,
                             float *dy, double *gate)
{
    const ha_config *c = mixer->config;
    const int width = c->num_heads * c->head_dim, d = c->hidden_size, rows = pass->batch->rows;
    const ha_matrix weight = ha_projection(mixer, pass, HA_SLOT_O);
    const float *bias = ha_weight(mixer, pass, HA_SLOT_O_BIAS);
    ha_linear_backward(rows, width, d, scale, y, width, weight, dout, d, 0.0f, NULL, width,
                       ha_grad(mixer, pass, HA_SLOT_O), ha_grad(mixer, pass, HA_SLOT_O_BIAS));
    /* <dout, y Wo^T> = <dout Wo, y>: the gate's gradient costs one dot product a row. */
    ha_linear_backward(rows, width, d, gate ? 1.0f : scale, y, width, weight, dout, d, 0.0f, dy, width, NULL, NULL);
    if (!gate)
        return;
    ha_dot_per_sequence(pass->batch, width, dy, width, y, width, gate);
    if (bias)
        for (int s = 0; s < pass->batch->n_seq; s++)
            for (int r = pass->batch->offset[s]; r < pass->batch->offset[s + 1]; r++)
                for (int i = 0; i < d; i++)
                    gate[s] += (double)dout[(ptrdiff_t)r * d + i] * (double)bias[i];
    if (scale != 1.0f)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * width; i++)
            dy[i] *= scale;
}
