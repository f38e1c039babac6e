/* Softmax attention with grouped heads and RoPE, as two kinds: `softmax`, the teacher's mixer, with
 * the model's own sliding window if it has one, and `window`, which sees the last tokens and the
 * first ones, the sinks (Xiao et al. 2023). */
#include "core/slices.h"
#include "mixers/attention_gate.h"
#include "mixers/projections.h"
#include "mixers/ring.h"
#include "mixers/softmax.h"

extern const ha_mixer_kind ha_window_mixer;

enum { OPTION_WINDOW, OPTION_SINKS };

typedef struct {
    float *qkv;         /* [rows, heads + 2 kv_heads, dim], q and k rotated */
    float *mixed;       /* [rows, heads, dim] */
    float *log_sum;     /* [rows, heads] */
    float *before_norm; /* what ha_project_in keeps */
    float *gate;        /* what ha_gate_forward keeps */
    size_t floats;
} saved_arrays;

static int qkv_width(const ha_config *c)
{
    return (c->num_heads + 2 * c->num_kv_heads) * c->head_dim;
}

/* Where they lie in `saved`; with NULL only `floats` is meant. */
static saved_arrays arrays_in(const ha_mixer *mixer, const ha_batch *batch, float *saved)
{
    const ha_config *c = mixer->config;
    const size_t rows = (size_t)batch->rows;
    ha_slices slices = {saved, 0};
    saved_arrays p;
    p.qkv = ha_slice(&slices, rows * (size_t)qkv_width(c));
    p.mixed = ha_slice(&slices, rows * (size_t)(c->num_heads * c->head_dim));
    p.log_sum = ha_slice(&slices, rows * (size_t)c->num_heads);
    p.before_norm = ha_slice(&slices, ha_project_in_saved(mixer, batch->rows));
    p.gate = ha_slice(&slices, ha_gate_saved(mixer, batch->rows));
    p.floats = slices.used;
    return p;
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    return arrays_in(mixer, batch, NULL).floats;
}

ha_attention ha_softmax_shape(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const int ring = mixer->kind == &ha_window_mixer;
    return (ha_attention){.heads = c->num_heads,
                          .kv_heads = c->num_kv_heads,
                          .dim = c->head_dim,
                          .causal = !c->bidirectional,
                          .window = ring ? mixer->option[OPTION_WINDOW] : c->sliding_window,
                          .sinks = ring ? mixer->option[OPTION_SINKS] : 0,
                          .scale = 1.0f / __builtin_sqrtf((float)c->head_dim)};
}

/* A ring for the kind `window`, keys and values of every token otherwise. */
static ha_state_shape state_shape(const ha_mixer *mixer)
{
    const ha_attention shape = ha_softmax_shape(mixer);
    if (mixer->kind == &ha_window_mixer)
        return ha_ring_shape(&shape);
    return (ha_state_shape){.planes = 2 * shape.kv_heads, .row = shape.dim};
}

/* Adds the parameters and sets their places in mixer->at. */
static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    const int aligns = mixer->kind == &ha_window_mixer;
    HA_TRY(ha_declare_projections(mixer, prefix, layer, mixer->config->num_kv_heads, aligns, NULL, 0, params));
    return ha_gate_declare(mixer, prefix, layer, aligns, params);
}

/* Start in the arena `weights`, from the softmax mixer and random numbers. */
static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    (void)rng;
    ha_transfer_projections(mixer, softmax, mixer->config->num_kv_heads, weights);
    ha_gate_transfer(mixer, softmax, weights);
}

/* Appends the new rows of sequence s to its state and points keys at all of it. */
static ha_keys append(const ha_config *c, const ha_batch *batch, int s, const float *qkv, const ha_state *state)
{
    const int row = batch->offset[s], n = batch->offset[s + 1] - row, width = qkv_width(c);
    ha_state_store(state, state->length, n, qkv + (ptrdiff_t)row * width + c->num_heads * c->head_dim, width);
    return ha_state_keys(state, state->length + n, state->length);
}

/* x [rows, hidden]; out [rows, hidden] += scale times the result; saved, state [n_seq]: or NULL.
 * See mixer.h. */
static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const int width = qkv_width(c), dim = c->head_dim, q = c->num_heads * dim, kv = c->num_kv_heads * dim;
    size_t mark = ha_arena_mark(pass->arena);
    if (!saved)
        HA_PUSH(saved, pass->arena, saved_floats(mixer, batch));
    saved_arrays p = arrays_in(mixer, batch, saved);
    ha_project_in(mixer, pass, x, p.qkv, p.before_norm);
    ha_rotate(mixer, pass, c->num_heads + c->num_kv_heads, 1.0f, p.qkv, width);
    const ha_attention shape = ha_softmax_shape(mixer);
    const ha_attention_out to = {ha_rows_to(p.mixed, q), p.log_sum, NULL};
    if (state && mixer->kind == &ha_window_mixer) {
        for (int s = 0; s < batch->n_seq; s++)
            HA_TRY(ha_ring_attend(&shape, pass, s, &state[s], p.qkv, &to));
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
        HA_TRY(ha_attention_forward(&shape, batch, ha_rows_of(p.qkv, width), keys, &to, pass->arena));
    }
    float *y;
    HA_TRY(ha_gate_forward(mixer, pass, x, p.mixed, p.gate, &y));
    ha_project_out(mixer, pass, y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* dout [rows, hidden] -> dx [rows, hidden] += unless NULL, the weights' gradients, and gate [n_seq]
 * unless NULL. */
static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, width = qkv_width(c), dim = c->head_dim, q = c->num_heads * dim,
              kv = c->num_kv_heads * dim;
    size_t mark = ha_arena_mark(pass->arena);
    saved_arrays p = arrays_in(mixer, batch, saved);
    float *y, *dy, *dqkv, *delta;
    HA_PUSH(dy, pass->arena, (size_t)rows * (size_t)q);
    HA_PUSH(dqkv, pass->arena, (size_t)rows * (size_t)width);
    HA_PUSH(delta, pass->arena, (size_t)rows * (size_t)c->num_heads);
    HA_TRY(ha_gate_again(mixer, pass, p.mixed, p.gate, &y));
    ha_project_out_backward(mixer, pass, y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        HA_TRY(ha_gate_backward(mixer, pass, x, p.mixed, p.gate, dy, dx));
        const ha_attention shape = ha_softmax_shape(mixer);
        ha_dot_per_head(rows, c->num_heads, dim, dy, q, p.mixed, q, delta);
        const ha_attention_saved kept = {.queries = ha_rows_of(p.qkv, width),
                                         .keys = ha_rows_of(p.qkv + q, width),
                                         .values = ha_rows_of(p.qkv + q + kv, width),
                                         .key_offset = batch->offset,
                                         .log_sum = p.log_sum};
        const ha_attention_upstream upstream = {ha_rows_of(dy, q), delta, NULL};
        const ha_attention_gradient gradient = {ha_rows_to(dqkv, width), ha_rows_to(dqkv + q, width),
                                                ha_rows_to(dqkv + q + kv, width)};
        HA_TRY(ha_attention_backward(&shape, batch, &kept, &upstream, &gradient, pass->arena));
        ha_rotate(mixer, pass, c->num_heads + c->num_kv_heads, -1.0f, dqkv, width);
        HA_TRY(ha_project_in_backward(mixer, pass, x, p.before_norm, dqkv, dx));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* Forward FLOP of a token that sees `context` tokens. */
static double flops(const ha_mixer *mixer, double context)
{
    const ha_config *c = mixer->config;
    const ha_attention shape = ha_softmax_shape(mixer);
    double width = c->num_heads * c->head_dim, most = (2 - shape.causal) * (shape.window - 1) + 1 + shape.sinks;
    if (shape.window && context > most)
        context = most;
    return 2.0 * c->hidden_size * (qkv_width(c) + width) + 4.0 * width * context + ha_gate_flops(mixer);
}

const ha_mixer_kind ha_softmax_mixer = {
    .name = "softmax",
    .summary = "softmax attention: grouped heads, RoPE, optional sliding window; memory grows with every token",
    .declare = declare,
    .saved = saved_floats,
    .state = state_shape,
    .forward = forward,
    .backward = backward,
    .flops = flops,
    .masks = HA_BOTH_MASKS,
};

const ha_mixer_kind ha_window_mixer = {
    .name = "window",
    .summary = "softmax attention over the last tokens and over attention sinks; what lies between is out of sight",
    .phrase = "exact attention to a short window and the first few tokens, and to nothing else",
    .align_rate = 0.0001,
    .option = {{"window", 64, 1, 1 << 20, "tokens in sight"},
               {"sinks", 4, 0, 1 << 16, "first tokens that stay in sight"}},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = state_shape,
    .forward = forward,
    .backward = backward,
    .flops = flops,
    .masks = HA_BOTH_MASKS,
};
