/* Softmax attention with grouped heads and RoPE, as two kinds: `softmax`, the teacher's mixer, with the model's own sliding
 * window if it has one, and `window`, which sees the last tokens and the first ones, the sinks (Xiao et al. 2023).
 *
 * Decode state of softmax, position-major: [capacity][k, v][kv_heads, dim]; of window: a ring (ring.h). */
#include <string.h>

#include "mixers/projections.h"
#include "mixers/ring.h"
#include "ops/ops.h"

enum { OPTION_WINDOW, OPTION_SINKS };

typedef struct {
    float *qkv; /* [rows, heads + 2 kv_heads, dim], q and k rotated */
    float *y;   /* [rows, heads, dim] */
    float *lse; /* [rows, heads] */
} saved_parts;

static int qkv_width(const ha_config *c)
{
    return (c->num_heads + 2 * c->num_kv_heads) * c->head_dim;
}

static saved_parts parts(const ha_config *c, const ha_batch *batch, float *saved)
{
    size_t rows = (size_t)batch->rows, qkv = rows * (size_t)qkv_width(c);
    return (saved_parts){saved, saved + qkv, saved + qkv + rows * (size_t)(c->num_heads * c->head_dim)};
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    const ha_config *c = mixer->config;
    return (size_t)batch->rows * (size_t)(qkv_width(c) + c->num_heads * (c->head_dim + 1));
}

static ha_attention shape_of(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const int grows = mixer->kind->grows;
    return (ha_attention){.heads = c->num_heads,
                          .kv_heads = c->num_kv_heads,
                          .dim = c->head_dim,
                          .causal = 1,
                          .window = grows ? c->sliding_window : mixer->option[OPTION_WINDOW],
                          .sinks = grows ? 0 : mixer->option[OPTION_SINKS],
                          .scale = 1.0f / __builtin_sqrtf((float)c->head_dim)};
}

static size_t state_floats(const ha_mixer *mixer, int capacity)
{
    const ha_attention shape = shape_of(mixer);
    if (!mixer->kind->grows)
        return ha_ring_floats(&shape);
    return (size_t)capacity * 2 * (size_t)(shape.kv_heads * shape.dim);
}

static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    return ha_declare_projections(mixer, prefix, layer, mixer->config->num_kv_heads, !mixer->kind->grows, NULL, 0,
                                  params);
}

static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    (void)rng;
    ha_transfer_projections(mixer, softmax, mixer->config->num_kv_heads, weights);
}

/* Appends the new rows of sequence s to its state and points keys at all of it. */
static ha_keys append(const ha_config *c, const ha_batch *batch, int s, const float *qkv, ha_state *state)
{
    const size_t kv = (size_t)(c->num_kv_heads * c->head_dim), width = (size_t)qkv_width(c);
    int past = state->length, n = batch->offset[s + 1] - batch->offset[s];
    for (int i = 0; i < n; i++)
        memcpy(state->data + (size_t)(past + i) * 2 * kv,
               qkv + (size_t)(batch->offset[s] + i) * width + (size_t)(c->num_heads * c->head_dim),
               2 * kv * sizeof *qkv);
    return (ha_keys){.k = state->data,
                     .v = state->data + kv,
                     .row = (ptrdiff_t)(2 * kv),
                     .head_stride = c->head_dim,
                     .length = past + n,
                     .past = past};
}

static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, width = qkv_width(c), dim = c->head_dim, q = c->num_heads * dim,
              kv = c->num_kv_heads * dim;
    size_t mark = ha_arena_mark(pass->arena);
    if (!saved)
        HA_PUSH(saved, pass->arena, saved_floats(mixer, batch));
    saved_parts p = parts(c, batch, saved);
    ha_linear_forward(rows, c->hidden_size, width, 1.0f, x, c->hidden_size, ha_weight(mixer, pass, HA_SLOT_QKV),
                      ha_weight(mixer, pass, HA_SLOT_QKV_BIAS), 0.0f, p.qkv, width);
    ha_rope(rows, c->num_heads + c->num_kv_heads, dim / 2, pass->cos, pass->sin, 1.0f, p.qkv, width);
    const ha_attention shape = shape_of(mixer);
    if (state && !mixer->kind->grows) {
        for (int s = 0; s < batch->n_seq; s++)
            HA_TRY(ha_ring_attend(&shape, pass, s, state[s].length, state[s].data, p.qkv, p.y, p.lse, NULL));
    } else {
        ha_keys *keys;
        HA_PUSH(keys, pass->arena, (size_t)batch->n_seq);
        for (int s = 0; s < batch->n_seq; s++) {
            const float *own = p.qkv + (ptrdiff_t)batch->offset[s] * width + q;
            keys[s] = state ? append(c, batch, s, p.qkv, &state[s])
                            : (ha_keys){.k = own,
                                        .v = own + kv,
                                        .row = width,
                                        .head_stride = dim,
                                        .length = batch->offset[s + 1] - batch->offset[s]};
        }
        HA_TRY(ha_attention_forward(&shape, batch, p.qkv, width, keys, p.y, q, p.lse, NULL, pass->arena));
    }
    ha_project_out(mixer, pass, p.y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, width = qkv_width(c), dim = c->head_dim, q = c->num_heads * dim,
              kv = c->num_kv_heads * dim;
    size_t mark = ha_arena_mark(pass->arena);
    saved_parts p = parts(c, batch, saved);
    float *dy, *dqkv, *delta;
    HA_PUSH(dy, pass->arena, (size_t)rows * (size_t)q);
    HA_PUSH(dqkv, pass->arena, (size_t)rows * (size_t)width);
    HA_PUSH(delta, pass->arena, (size_t)rows * (size_t)c->num_heads);
    ha_project_out_backward(mixer, pass, p.y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        const ha_attention shape = shape_of(mixer);
        ha_dot_per_head(rows, c->num_heads, dim, dy, q, p.y, q, delta);
        HA_TRY(ha_attention_backward(&shape, batch, p.qkv, p.qkv + q, p.qkv + q + kv, width, p.lse, delta, NULL, NULL,
                                     dy, q, dqkv, dqkv + q, dqkv + q + kv, width, pass->arena));
        ha_rope(rows, c->num_heads + c->num_kv_heads, dim / 2, pass->cos, pass->sin, -1.0f, dqkv, width);
        ha_linear_backward(rows, c->hidden_size, width, 1.0f, x, c->hidden_size, ha_weight(mixer, pass, HA_SLOT_QKV),
                           dqkv, width, 1.0f, dx, c->hidden_size, ha_grad(mixer, pass, HA_SLOT_QKV),
                           ha_grad(mixer, pass, HA_SLOT_QKV_BIAS));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

static double flops(const ha_mixer *mixer, double context)
{
    const ha_config *c = mixer->config;
    const ha_attention shape = shape_of(mixer);
    double width = c->num_heads * c->head_dim, most = shape.window + shape.sinks;
    if (shape.window && context > most)
        context = most;
    return 2.0 * c->hidden_size * (qkv_width(c) + width) + 4.0 * width * context;
}

const ha_mixer_kind ha_softmax_mixer = {
    .name = "softmax",
    .summary = "softmax attention: grouped heads, RoPE, optional sliding window; memory grows with every token",
    .grows = 1,
    .declare = declare,
    .saved = saved_floats,
    .state = state_floats,
    .forward = forward,
    .backward = backward,
    .flops = flops,
};

const ha_mixer_kind ha_window_mixer = {
    .name = "window",
    .summary = "softmax attention over the last tokens and over attention sinks; what lies between is out of sight",
    .option = {{"window", 64, 1, 1 << 20, "tokens in sight"},
               {"sinks", 4, 0, 1 << 16, "first tokens that stay in sight"}},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = state_floats,
    .forward = forward,
    .backward = backward,
    .flops = flops,
};
