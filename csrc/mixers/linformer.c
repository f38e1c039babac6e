/* Linformer (Wang et al. 2020, arXiv 2006.04768), for encoders: keys and values are projected along
 * the sequence by learned matrices E and F [slots, length] (ops/pool.c), and softmax runs over the
 * slots:
 *     y_i = softmax(q_i (E K)^T / sqrt(dim)) F V
 * E and F are shared by the heads of a layer and begin as means over the stretch of each slot. No
 * sequence may be longer than `length`. */
#include <math.h>

#include "core/slices.h"
#include "mixers/projections.h"
#include "ops/ops.h"

enum { SLOT_KEY_POOL = HA_SLOT_OWN, SLOT_VALUE_POOL };
enum { OPTION_SLOTS, OPTION_LENGTH, OPTION_ROPE };

typedef struct {
    int q, kv, width; /* q = heads*dim, kv = kv_heads*dim, width = q + 2 kv */
    ha_pool pool;
    ha_attention over;
} layout;

/* From the options and the model's config. */
static layout layout_of(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const int q = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    return (layout){q,
                    kv,
                    q + 2 * kv,
                    {.slots = mixer->option[OPTION_SLOTS], .length = mixer->option[OPTION_LENGTH], .width = kv},
                    {.heads = c->num_heads,
                     .kv_heads = c->num_kv_heads,
                     .dim = c->head_dim,
                     .scale = 1.0f / sqrtf((float)c->head_dim)}};
}

typedef struct {
    float *before_norm;           /* what ha_project_in keeps */
    float *qkv, *mixed, *log_sum; /* [rows, width], [rows, q], [rows, heads] */
    float *keys, *values;         /* pooled [slots of all sequences, kv] */
    size_t floats;
} saved_arrays;

/* Slots of all sequences together. */
static size_t slots_of(const layout *l, const ha_batch *batch)
{
    size_t n = 0;
    for (int s = 0; s < batch->n_seq; s++)
        n += (size_t)ha_pool_slots(&l->pool, batch->offset[s + 1] - batch->offset[s]);
    return n;
}

/* Where they lie in `saved`; with NULL only `floats` is meant. */
static saved_arrays arrays_in(const ha_mixer *mixer, const layout *l, const ha_batch *batch, float *saved)
{
    const size_t n = (size_t)batch->rows, pooled = slots_of(l, batch) * (size_t)l->kv;
    ha_slices slices = {saved, 0};
    saved_arrays p;
    p.qkv = ha_slice(&slices, n * (size_t)l->width);
    p.mixed = ha_slice(&slices, n * (size_t)l->q);
    p.log_sum = ha_slice(&slices, n * (size_t)l->over.heads);
    p.keys = ha_slice(&slices, pooled);
    p.values = ha_slice(&slices, pooled);
    p.before_norm = ha_slice(&slices, ha_project_in_saved(mixer, batch->rows));
    p.floats = slices.used;
    return p;
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    const layout l = layout_of(mixer);
    return arrays_in(mixer, &l, batch, NULL).floats;
}

/* Encoders have no cache. */
static ha_state_shape state_shape(const ha_mixer *mixer)
{
    (void)mixer;
    return (ha_state_shape){0};
}

/* Adds the parameters and sets their places in mixer->at. */
static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    const int slots = mixer->option[OPTION_SLOTS], length = mixer->option[OPTION_LENGTH];
    if (slots > length)
        return ha_fail(HA_BAD_VALUE, "layers[%d]: linformer's slots is %d, allowed are 1 to its length, %d", layer,
                       slots, length);
    HA_TRY(ha_declare_projections(mixer, prefix, layer, mixer->config->num_kv_heads, 1, NULL, 0, params));
    const ha_param pool = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = 2, .shape = {slots, length}};
    HA_TRY(ha_params_add(params, prefix, "key_pool.weight", &pool, &mixer->at[SLOT_KEY_POOL]));
    return ha_params_add(params, prefix, "value_pool.weight", &pool, &mixer->at[SLOT_VALUE_POOL]);
}

/* Start in the arena `weights`, from the softmax mixer and random numbers. */
static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    const layout l = layout_of(mixer);
    (void)rng;
    ha_transfer_projections(mixer, softmax, mixer->config->num_kv_heads, weights);
    ha_pool_start(&l.pool, weights + mixer->at[SLOT_KEY_POOL]);
    ha_pool_start(&l.pool, weights + mixer->at[SLOT_VALUE_POOL]);
}

/* The pool of keys or of values, with its weights. */
static ha_pool pool_at(const ha_mixer *mixer, const ha_pass *pass, const layout *l, int slot)
{
    ha_pool pool = l->pool;
    pool.weight = ha_weight(mixer, pass, slot);
    return pool;
}

/* x [rows, hidden]; out [rows, hidden] += scale times the result; saved, state [n_seq]: or NULL.
 * See mixer.h. */
static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(mixer);
    const size_t mark = ha_arena_mark(pass->arena);
    (void)state;
    for (int s = 0; s < batch->n_seq; s++)
        if (batch->offset[s + 1] - batch->offset[s] > l.pool.length)
            return ha_fail(HA_BAD_VALUE, "a sequence has %d tokens, allowed by linformer's length are 1 to %d",
                           batch->offset[s + 1] - batch->offset[s], l.pool.length);
    if (!saved)
        HA_PUSH(saved, pass->arena, saved_floats(mixer, batch));
    const saved_arrays p = arrays_in(mixer, &l, batch, saved);
    int32_t *offset;
    ha_keys *keys;
    ha_project_in(mixer, pass, x, p.qkv, p.before_norm);
    if (mixer->option[OPTION_ROPE])
        ha_rotate(mixer, pass, l.over.heads + l.over.kv_heads, 1.0f, p.qkv, l.width);
    const ha_pool keys_pool = pool_at(mixer, pass, &l, SLOT_KEY_POOL),
                  values_pool = pool_at(mixer, pass, &l, SLOT_VALUE_POOL);
    HA_TRY(ha_pool_forward(&keys_pool, batch, ha_rows_of(p.qkv + l.q, l.width), p.keys, pass->arena));
    HA_TRY(ha_pool_forward(&values_pool, batch, ha_rows_of(p.qkv + l.q + l.kv, l.width), p.values, pass->arena));
    HA_PUSH(offset, pass->arena, (size_t)batch->n_seq + 1);
    HA_PUSH(keys, pass->arena, (size_t)batch->n_seq);
    ha_pool_offsets(&l.pool, batch, offset);
    for (int s = 0; s < batch->n_seq; s++)
        keys[s] = (ha_keys){.k = p.keys + (ptrdiff_t)offset[s] * l.kv,
                            .v = p.values + (ptrdiff_t)offset[s] * l.kv,
                            .row = l.kv,
                            .head_stride = l.over.dim,
                            .length = offset[s + 1] - offset[s]};
    const ha_attention_out to = {ha_rows_to(p.mixed, l.q), p.log_sum, NULL};
    HA_TRY(ha_attention_forward(&l.over, batch, ha_rows_of(p.qkv, l.width), keys, &to, pass->arena));
    ha_project_out(mixer, pass, p.mixed, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* dout [rows, hidden] -> dx [rows, hidden] += unless NULL, the weights' gradients, and gate [n_seq]
 * unless NULL. */
static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(mixer);
    const size_t mark = ha_arena_mark(pass->arena), n = (size_t)batch->rows;
    const int heads = l.over.heads, dim = l.over.dim, kv = l.kv;
    const saved_arrays p = arrays_in(mixer, &l, batch, saved);
    float *dy;
    HA_PUSH(dy, pass->arena, n * (size_t)l.q);
    ha_project_out_backward(mixer, pass, p.mixed, scale, dout, dy, gate);
    if (scale != 0.0f) {
        int32_t *offset;
        float *dqkv, *delta, *dk, *dv;
        HA_PUSH(offset, pass->arena, (size_t)batch->n_seq + 1);
        HA_PUSH(dqkv, pass->arena, n * (size_t)l.width);
        HA_PUSH(delta, pass->arena, n * (size_t)heads);
        ha_pool_offsets(&l.pool, batch, offset);
        HA_PUSH(dk, pass->arena, (size_t)offset[batch->n_seq] * (size_t)kv);
        HA_PUSH(dv, pass->arena, (size_t)offset[batch->n_seq] * (size_t)kv);
        ha_dot_per_head(batch->rows, heads, dim, dy, l.q, p.mixed, l.q, delta);
        const ha_attention_saved kept = {.queries = ha_rows_of(p.qkv, l.width),
                                         .keys = ha_rows_of(p.keys, kv),
                                         .values = ha_rows_of(p.values, kv),
                                         .key_offset = offset,
                                         .log_sum = p.log_sum};
        const ha_attention_upstream upstream = {ha_rows_of(dy, l.q), delta, NULL};
        const ha_attention_gradient gradient = {ha_rows_to(dqkv, l.width), ha_rows_to(dk, kv), ha_rows_to(dv, kv)};
        HA_TRY(ha_attention_backward(&l.over, batch, &kept, &upstream, &gradient, pass->arena));
        const ha_pool keys_pool = pool_at(mixer, pass, &l, SLOT_KEY_POOL),
                      values_pool = pool_at(mixer, pass, &l, SLOT_VALUE_POOL);
        HA_TRY(ha_pool_backward(&keys_pool, batch, ha_rows_of(p.qkv + l.q, l.width), dk,
                                ha_rows_to(dqkv + l.q, l.width), ha_grad(mixer, pass, SLOT_KEY_POOL), pass->arena));
        HA_TRY(ha_pool_backward(&values_pool, batch, ha_rows_of(p.qkv + l.q + kv, l.width), dv,
                                ha_rows_to(dqkv + l.q + kv, l.width), ha_grad(mixer, pass, SLOT_VALUE_POOL),
                                pass->arena));
        if (mixer->option[OPTION_ROPE])
            ha_rotate(mixer, pass, heads + l.over.kv_heads, -1.0f, dqkv, l.width);
        HA_TRY(ha_project_in_backward(mixer, pass, x, p.before_norm, dqkv, dx));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* Forward FLOP of a token that sees `context` tokens. */
static double flops(const ha_mixer *mixer, double context)
{
    const layout l = layout_of(mixer);
    const double slots = ha_pool_slots(&l.pool, context < l.pool.length ? (int)context : l.pool.length);
    return 2.0 * mixer->config->hidden_size * (l.width + l.q) + 4.0 * slots * (l.kv + l.q);
}

const ha_mixer_kind ha_linformer_mixer = {
    .name = "linformer",
    .summary = "softmax over slots, learned projections of keys and values along the sequence; encoders only",
    .phrase = "exact attention to a fixed number of slots, learned sums of keys and of values along the sequence",
    .align_rate = 0.001,
    .option = {{"slots", 64, 1, 1 << 16, "rows that keys and values are projected to"},
               {"length", 512, 1, 1 << 20, "tokens of the longest sequence"},
               {"rope", 1, 0, 1, "rotate q and k"}},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = state_shape,
    .forward = forward,
    .backward = backward,
    .flops = flops,
    .masks = HA_BIDIRECTIONAL_ONLY,
};
