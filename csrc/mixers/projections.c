#include "mixers/projections.h"

#include <string.h>

#include "core/thread.h"
#include "ops/ops.h"

ha_status ha_declare_projections(ha_mixer *mixer, const char *prefix, int layer, int kv_heads, int aligns,
                                 const ha_joined *joined, int n_joined, ha_params *params)
{
    const ha_config *c = mixer->config;
    const int own = mixer->own.heads ? mixer->own.key_heads * mixer->own.dim : 0, d = c->hidden_size;
    const int q = own ? own : c->num_heads * c->head_dim, k = own ? own : kv_heads * c->head_dim;
    const int inner = ha_inner(mixer), v = own ? inner : k;
    const struct {
        const char *weight, *bias;
        int rows;
    } main[] = {
        {"q_proj.weight", "q_proj.bias", q}, {"k_proj.weight", "k_proj.bias", k}, {"v_proj.weight", "v_proj.bias", v}};
    size_t behind; /* the place of what is joined to the one before it */
    mixer->projections_align = aligns;
    for (int i = 0; i < HA_MAX_SLOTS; i++)
        mixer->at[i] = HA_NONE;
    ha_param matrix = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = aligns, .matrix = 1, .ndim = 2};
    ha_param vector = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = aligns, .ndim = 1};
    matrix.shape[1] = d;
    for (int i = 0; i < 3; i++) {
        matrix.joined = i > 0;
        matrix.shape[0] = main[i].rows;
        HA_TRY(ha_params_add(params, prefix, main[i].weight, &matrix, i == 0 ? &mixer->at[HA_SLOT_QKV] : &behind));
    }
    for (int i = 0; i < n_joined; i++) {
        matrix.shape[0] = joined[i].rows;
        HA_TRY(ha_params_add(params, prefix, joined[i].name, &matrix, &behind));
    }
    for (int i = 0; c->attention_bias && !mixer->no_bias && i < 3; i++) {
        vector.joined = i > 0;
        vector.shape[0] = main[i].rows;
        HA_TRY(ha_params_add(params, prefix, main[i].bias, &vector, i == 0 ? &mixer->at[HA_SLOT_QKV_BIAS] : &behind));
    }
    matrix.joined = vector.joined = 0;
    matrix.shape[0] = vector.shape[0] = d;
    matrix.shape[1] = inner;
    HA_TRY(ha_params_add(params, prefix, "o_proj.weight", &matrix, &mixer->at[HA_SLOT_O]));
    if (c->output_bias && !mixer->no_bias)
        HA_TRY(ha_params_add(params, prefix, "o_proj.bias", &vector, &mixer->at[HA_SLOT_O_BIAS]));
    static const char *const norm[] = {"q_norm.weight", "k_norm.weight"};
    vector.shape[0] = c->head_dim;
    for (int i = 0; c->qk_norm && !mixer->no_qk_norm && i < 2; i++)
        HA_TRY(ha_params_add(params, prefix, norm[i], &vector, &mixer->at[HA_SLOT_Q_NORM + i]));
    return HA_OK;
}

/* `heads` blocks of `block` floats from as many or fewer: block h comes from h / (heads /
 * from_heads). */
static void copy_heads(float *to, int heads, const float *from, int from_heads, size_t block)
{
    for (int h = 0; h < heads; h++)
        memcpy(to + (size_t)h * block, from + (size_t)(h / (heads / from_heads)) * block, block * sizeof *to);
}

void ha_transfer_projections(const ha_mixer *mixer, const ha_mixer *softmax, int kv_heads, float *weights)
{
    const ha_config *c = mixer->config;
    const size_t d = (size_t)c->hidden_size, dim = (size_t)c->head_dim;
    for (int bias = 0; bias <= (c->attention_bias && !mixer->no_bias); bias++) {
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
    if (c->output_bias && !mixer->no_bias)
        memcpy(weights + mixer->at[HA_SLOT_O_BIAS], weights + softmax->at[HA_SLOT_O_BIAS], d * sizeof *weights);
    for (int i = 0; ha_has_qk_norm(mixer) && i < 2; i++)
        memcpy(weights + mixer->at[HA_SLOT_Q_NORM + i], weights + softmax->at[HA_SLOT_Q_NORM + i],
               dim * sizeof *weights);
}

void ha_rotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float sign, float *x, ptrdiff_t ldx)
{
    const ha_config *c = mixer->config;
    const ha_rotation rotation = {c->rope_dim / 2, pass->cos[c->rope_table], pass->sin[c->rope_table]};
    ha_rope(&rotation, pass->batch->rows, heads, c->head_dim, sign, ha_rows_to(x, ldx));
}

void ha_unrotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float *x, ptrdiff_t ldx)
{
    const ha_config *c = mixer->config;
    const float factor = c->rope_factor, inverse = 1.0f / (factor * factor);
    ha_rotate(mixer, pass, heads, -1.0f, x, ldx);
    for (int r = 0; factor != 1.0f && r < pass->batch->rows; r++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < c->rope_dim; i++)
                x[r * ldx + (ptrdiff_t)h * c->head_dim + i] *= inverse; /* both tables carry the factor */
}

void ha_qk_norm(const ha_mixer *mixer, const ha_pass *pass, int slot, int heads, const float *x, ptrdiff_t ldx,
                float *y, ptrdiff_t ldy)
{
    const ha_config *c = mixer->config;
    const ha_row_norm norm = {c->head_dim, ha_weight(mixer, pass, slot), NULL, c->norm_eps};
    if (ha_has_qk_norm(mixer))
        ha_head_norm_forward(&norm, pass->batch->rows, heads, ha_rows_of(x, ldx), ha_rows_to(y, ldy));
}

ha_status ha_qk_norm_backward(const ha_mixer *mixer, const ha_pass *pass, int slot, int heads, const float *x,
                              ptrdiff_t ldx, float *dy, ptrdiff_t lddy)
{
    const ha_config *c = mixer->config;
    const ha_row_norm norm = {c->head_dim, ha_weight(mixer, pass, slot), NULL, c->norm_eps};
    const int rows = pass->batch->rows, width = heads * c->head_dim;
    const size_t mark = ha_arena_mark(pass->arena);
    float *dx;
    if (!ha_has_qk_norm(mixer))
        return HA_OK;
    HA_PUSH(dx, pass->arena, (size_t)rows * (size_t)width);
    memset(dx, 0, (size_t)rows * (size_t)width * sizeof *dx);
    HA_TRY(ha_head_norm_backward(&norm, rows, heads, ha_rows_of(x, ldx), ha_rows_of(dy, lddy), ha_rows_to(dx, width),
                                 ha_grad(mixer, pass, slot), pass->arena));
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++)
        memcpy(dy + r * lddy, dx + (ptrdiff_t)r * width, (size_t)width * sizeof *dx);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

static int qkv_width(const ha_config *c)
{
    return (c->num_heads + 2 * c->num_kv_heads) * c->head_dim;
}

/* Columns of q and k together. */
static int qk_width(const ha_config *c)
{
    return (c->num_heads + c->num_kv_heads) * c->head_dim;
}

size_t ha_project_in_saved(const ha_mixer *mixer, int rows)
{
    return mixer->config->qk_norm ? (size_t)rows * (size_t)qk_width(mixer->config) : 0;
}

void ha_project_in(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *qkv, float *kept)
{
    const ha_config *c = mixer->config;
    const int rows = pass->batch->rows, d = c->hidden_size, width = qkv_width(c), qk = qk_width(c),
              q = c->num_heads * c->head_dim;
    ha_observe(pass, mixer->at[HA_SLOT_QKV], d, x);
    const ha_linear joined =
        ha_linear_of(d, width, ha_projection(mixer, pass, HA_SLOT_QKV), ha_weight(mixer, pass, HA_SLOT_QKV_BIAS));
    ha_linear_forward(&joined, rows, ha_rows_of(x, d), 0, ha_rows_to(qkv, width));
    const int keeps = c->qk_norm && kept ? rows : 0;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (keeps > 4)
    for (int r = 0; r < keeps; r++)
        memcpy(kept + (ptrdiff_t)r * qk, qkv + (ptrdiff_t)r * width, (size_t)qk * sizeof *kept);
    ha_qk_norm(mixer, pass, HA_SLOT_Q_NORM, c->num_heads, qkv, width, qkv, width);
    ha_qk_norm(mixer, pass, HA_SLOT_K_NORM, c->num_kv_heads, qkv + q, width, qkv + q, width);
}

ha_status ha_project_in_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *kept,
                                 float *dqkv, float *dx)
{
    const ha_config *c = mixer->config;
    const int d = c->hidden_size, width = qkv_width(c), qk = qk_width(c), q = c->num_heads * c->head_dim;
    if (!dx && !ha_grad(mixer, pass, HA_SLOT_QKV))
        return HA_OK;
    HA_TRY(ha_qk_norm_backward(mixer, pass, HA_SLOT_Q_NORM, c->num_heads, kept, qk, dqkv, width));
    HA_TRY(ha_qk_norm_backward(mixer, pass, HA_SLOT_K_NORM, c->num_kv_heads, kept + (c->qk_norm ? q : 0), qk, dqkv + q,
                               width));
    const ha_linear joined = ha_linear_of(d, width, ha_projection(mixer, pass, HA_SLOT_QKV), NULL);
    const ha_linear_gradient gradient = {.x = ha_rows_to(dx, d),
                                         .accumulate = 1,
                                         .weight = ha_grad(mixer, pass, HA_SLOT_QKV),
                                         .bias = ha_grad(mixer, pass, HA_SLOT_QKV_BIAS)};
    ha_linear_backward(&joined, pass->batch->rows, ha_rows_of(x, d), ha_rows_of(dqkv, width), &gradient);
    return HA_OK;
}

void ha_project_out(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, float *out)
{
    const ha_config *c = mixer->config;
    const int width = ha_inner(mixer), d = c->hidden_size;
    ha_observe(pass, mixer->at[HA_SLOT_O], width, y);
    ha_linear output =
        ha_linear_of(width, d, ha_projection(mixer, pass, HA_SLOT_O), ha_weight(mixer, pass, HA_SLOT_O_BIAS));
    output.scale = scale;
    ha_linear_forward(&output, pass->batch->rows, ha_rows_of(y, width), 1, ha_rows_to(out, d));
}

void ha_project_out_backward(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, const float *dout,
                             float *dy, double *gate)
{
    const ha_config *c = mixer->config;
    const int width = ha_inner(mixer), d = c->hidden_size, rows = pass->batch->rows;
    const float *bias = ha_weight(mixer, pass, HA_SLOT_O_BIAS);
    const ha_rows outputs = ha_rows_of(dout, d), inputs = ha_rows_of(y, width);
    ha_linear output = {width, d, ha_projection(mixer, pass, HA_SLOT_O), NULL, scale};
    const ha_linear_gradient of_weight = {.weight = ha_grad(mixer, pass, HA_SLOT_O),
                                          .bias = ha_grad(mixer, pass, HA_SLOT_O_BIAS)};
    const ha_linear_gradient of_inputs = {.x = ha_rows_to(dy, width)};
    ha_linear_backward(&output, rows, inputs, outputs, &of_weight);
    /* <dout, y Wo^T> = <dout Wo, y>: the gate's gradient costs one dot product a row. */
    output.scale = gate ? 1.0f : scale;
    ha_linear_backward(&output, rows, inputs, outputs, &of_inputs);
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
