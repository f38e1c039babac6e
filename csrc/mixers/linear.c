/* Linear attention over a feature map (Katharopoulos et al. 2020): with num_i = sum_j
 * (phi(q_i).phi(k_j)) v_j over j <= i, or over all j in a bidirectional model,
 *     y_i = num_i / sum_j phi(q_i).phi(k_j)     option normalise = 1
 *     y_i = rms_norm(num_i), head by head       option normalise = 0 (Qin et al. 2022)
 * Keys and values stay grouped. Decode state: [kv_heads][width, dim + 1]. */
#include <string.h>

#include "core/slices.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/feature_map.h"
#include "mixers/projections.h"

enum { SLOT_FEATURE_Q = HA_SLOT_OWN, SLOT_FEATURE_K, SLOT_NORM };
enum { OPTION_FEATURE, OPTION_NORMALISE, OPTION_ROPE };
static const float NO_MASS = 1e-20f; /* keeps 0 / 0, where no feature of a key meets the query's, at 0 */

typedef struct {
    int q, kv, width; /* q = heads*dim, kv = kv_heads*dim, width = q + 2 kv */
    ha_feature map;
    ha_linear_attention sums;
} layout;

/* From the options and the model's config. */
static layout layout_of(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const int q = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim;
    const ha_feature map = (ha_feature)mixer->option[OPTION_FEATURE];
    return (layout){q,
                    kv,
                    q + 2 * kv,
                    map,
                    {.heads = c->num_heads,
                     .kv_heads = c->num_kv_heads,
                     .features = ha_feature_width(map, c->head_dim),
                     .dim = c->head_dim,
                     .bidirectional = c->bidirectional}};
}

typedef struct {
    float *qkv;                           /* [rows, width] */
    float *query_features, *key_features; /* [rows, heads or kv_heads, features] */
    float *numerators, *denominators;     /* [rows, heads, dim], [rows, heads] */
    float *before_norm;                   /* what ha_project_in keeps */
    float *states;
    size_t floats;
} saved_arrays;

/* Where they lie in `saved`; with NULL only `floats` is meant. */
static saved_arrays arrays_in(const ha_mixer *mixer, const layout *l, const ha_batch *batch, float *saved)
{
    const size_t n = (size_t)batch->rows;
    ha_slices slices = {saved, 0};
    saved_arrays p;
    p.qkv = ha_slice(&slices, n * (size_t)l->width);
    p.query_features = ha_slice(&slices, n * (size_t)(l->sums.heads * l->sums.features));
    p.key_features = ha_slice(&slices, n * (size_t)(l->sums.kv_heads * l->sums.features));
    p.numerators = ha_slice(&slices, n * (size_t)l->q);
    p.denominators = ha_slice(&slices, n * (size_t)l->sums.heads);
    p.before_norm = ha_slice(&slices, ha_project_in_saved(mixer, batch->rows));
    p.states = ha_slice(&slices, ha_linear_attention_states(&l->sums, batch));
    p.floats = slices.used;
    return p;
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    const layout l = layout_of(mixer);
    return arrays_in(mixer, &l, batch, NULL).floats;
}

static ha_state_shape state_shape(const ha_mixer *mixer)
{
    const layout l = layout_of(mixer);
    return (ha_state_shape){.floats = (size_t)(l.sums.kv_heads * l.sums.features) * (size_t)(l.sums.dim + 1)};
}

/* Adds the parameters and sets their places in mixer->at. */
static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    const ha_config *c = mixer->config;
    HA_TRY(ha_declare_projections(mixer, prefix, layer, c->num_kv_heads, 1, NULL, 0, params));
    HA_TRY(
        ha_features_declare(mixer, prefix, layer, (ha_feature)mixer->option[OPTION_FEATURE], SLOT_FEATURE_Q, params));
    if (mixer->option[OPTION_NORMALISE])
        return HA_OK;
    const ha_param norm = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = 1, .shape = {c->head_dim}};
    return ha_params_add(params, prefix, "norm.weight", &norm, &mixer->at[SLOT_NORM]);
}

/* Start in the arena `weights`, from the softmax mixer and random numbers. */
static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    ha_transfer_projections(mixer, softmax, mixer->config->num_kv_heads, weights);
    ha_features_init(mixer, (ha_feature)mixer->option[OPTION_FEATURE], SLOT_FEATURE_Q, weights, rng);
    for (int i = 0; mixer->at[SLOT_NORM] != HA_NONE && i < mixer->config->head_dim; i++)
        weights[mixer->at[SLOT_NORM] + (size_t)i] = 1.0f;
}

/* y [rows, heads, dim] from numerators and denominators. */
static void normalise(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const saved_arrays *p, float *y)
{
    const int rows = pass->batch->rows, heads = l->sums.heads, dim = l->sums.dim;
    if (!mixer->option[OPTION_NORMALISE]) {
        const ha_row_norm norm = {dim, ha_weight(mixer, pass, SLOT_NORM), NULL, mixer->config->norm_eps};
        ha_rms_norm_forward(&norm, rows * heads, ha_rows_of(p->numerators, dim), ha_rows_to(y, dim));
        return;
    }
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (ptrdiff_t at = 0; at < (ptrdiff_t)rows * heads; at++) {
        const float share = 1.0f / (p->denominators[at] + NO_MASS);
        for (int c = 0; c < dim; c++)
            y[at * dim + c] = share * p->numerators[at * dim + c];
    }
}

/* What the sums are taken over. */
static ha_status operands_of(const layout *l, const ha_batch *batch, const saved_arrays *p,
                             ha_linear_attention_in *operands, ha_arena *arena)
{
    const ha_features features = {p->query_features, p->key_features};
    const ha_rows values = ha_rows_of(p->qkv + l->q + l->kv, l->width);
    return ha_features_operands(&l->sums, batch, &features, values, operands, arena);
}

/* x [rows, hidden]; out [rows, hidden] += scale times the result; saved, state [n_seq]: or NULL.
 * See mixer.h. */
static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(mixer);
    const size_t mark = ha_arena_mark(pass->arena);
    const int keep = saved != NULL;
    if (!keep)
        HA_PUSH(saved, pass->arena, saved_floats(mixer, batch));
    saved_arrays p = arrays_in(mixer, &l, batch, saved);
    float **states, *y;
    ha_project_in(mixer, pass, x, p.qkv, p.before_norm);
    if (mixer->option[OPTION_ROPE])
        ha_rotate(mixer, pass, c->num_heads + c->num_kv_heads, 1.0f, p.qkv, l.width);
    HA_TRY(ha_features_forward(mixer, pass, l.map, SLOT_FEATURE_Q, p.qkv, p.query_features, p.key_features));
    HA_PUSH(states, pass->arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++)
        states[s] = state ? state[s].data : NULL;
    ha_linear_attention_in operands;
    const ha_linear_attention_out sums = {ha_rows_to(p.numerators, l.q), p.denominators};
    HA_TRY(operands_of(&l, batch, &p, &operands, pass->arena));
    HA_TRY(ha_linear_attention_forward(&l.sums, batch, &operands, state ? states : NULL, &sums, keep ? p.states : NULL,
                                       pass->arena));
    HA_PUSH(y, pass->arena, (size_t)batch->rows * (size_t)l.q);
    normalise(mixer, pass, &l, &p, y);
    ha_project_out(mixer, pass, y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* dnum [rows, q] and dden [rows, heads] from dy */
static ha_status normalise_backward(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const saved_arrays *p,
                                    const float *y, const float *dy, float *dnum, float *dden)
{
    const int rows = pass->batch->rows, heads = l->sums.heads, dim = l->sums.dim;
    if (!mixer->option[OPTION_NORMALISE]) {
        memset(dnum, 0, (size_t)rows * (size_t)l->q * sizeof *dnum);
        memset(dden, 0, (size_t)rows * (size_t)heads * sizeof *dden);
        const ha_row_norm norm = {dim, ha_weight(mixer, pass, SLOT_NORM), NULL, mixer->config->norm_eps};
        return ha_rms_norm_backward(&norm, rows * heads, ha_rows_of(p->numerators, dim), ha_rows_of(dy, dim),
                                    ha_rows_to(dnum, dim), ha_grad(mixer, pass, SLOT_NORM), pass->arena);
    }
    ha_dot_per_head(rows, heads, dim, dy, l->q, y, l->q, dden);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (ptrdiff_t at = 0; at < (ptrdiff_t)rows * heads; at++) {
        const float share = 1.0f / (p->denominators[at] + NO_MASS);
        dden[at] *= -share;
        for (int c = 0; c < dim; c++)
            dnum[at * dim + c] = share * dy[at * dim + c];
    }
    return HA_OK;
}

/* dout [rows, hidden] -> dx [rows, hidden] += unless NULL, the weights' gradients, and gate [n_seq]
 * unless NULL. */
static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(mixer);
    const int rows = batch->rows, fq = c->num_heads * l.sums.features, fk = c->num_kv_heads * l.sums.features;
    const size_t mark = ha_arena_mark(pass->arena), n = (size_t)rows;
    const saved_arrays p = arrays_in(mixer, &l, batch, saved);
    float *y, *dy, *dnum, *dden, *dqkv, *dfq, *dfk;
    HA_PUSH(y, pass->arena, n * (size_t)l.q);
    HA_PUSH(dy, pass->arena, n * (size_t)l.q);
    normalise(mixer, pass, &l, &p, y);
    ha_project_out_backward(mixer, pass, y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        HA_PUSH(dnum, pass->arena, n * (size_t)l.q);
        HA_PUSH(dden, pass->arena, n * (size_t)c->num_heads);
        HA_PUSH(dqkv, pass->arena, n * (size_t)l.width);
        HA_PUSH(dfq, pass->arena, n * (size_t)fq);
        HA_PUSH(dfk, pass->arena, n * (size_t)fk);
        HA_TRY(normalise_backward(mixer, pass, &l, &p, y, dy, dnum, dden));
        memset(dqkv, 0, n * (size_t)l.width * sizeof *dqkv);
        ha_linear_attention_in operands;
        const ha_linear_attention_upstream upstream = {ha_rows_of(dnum, l.q), dden};
        const ha_linear_attention_gradient gradient = {ha_rows_to(dfq, fq), ha_rows_to(dfk, fk),
                                                       ha_rows_to(dqkv + l.q + l.kv, l.width)};
        HA_TRY(operands_of(&l, batch, &p, &operands, pass->arena));
        HA_TRY(ha_linear_attention_backward(&l.sums, batch, &operands, p.states, &upstream, &gradient, pass->arena));
        const ha_features features = {p.query_features, p.key_features}, slopes = {dfq, dfk};
        HA_TRY(ha_features_backward(mixer, pass, l.map, SLOT_FEATURE_Q, p.qkv, &features, &slopes, dqkv));
        if (mixer->option[OPTION_ROPE])
            ha_rotate(mixer, pass, c->num_heads + c->num_kv_heads, -1.0f, dqkv, l.width);
        HA_TRY(ha_project_in_backward(mixer, pass, x, p.before_norm, dqkv, dx));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* Forward FLOP of a token that sees `context` tokens. */
static double flops(const ha_mixer *mixer, double context)
{
    const layout l = layout_of(mixer);
    const double maps = ha_feature_has_weight(l.map) ? 2.0 * (l.q + l.kv) * l.sums.dim : 0.0;
    (void)context;
    return 2.0 * mixer->config->hidden_size * (l.width + l.q) + 4.0 * l.q * l.sums.features + maps;
}

const ha_mixer_kind ha_linear_mixer = {
    .name = "linear",
    .summary = "linear attention: keys and values summed under a feature map, a state of fixed size per key head",
    .phrase = "linear attention, sums over all tokens under a feature map",
    .align_rate = 0.001,
    .option = {HA_FEATURE_OPTION(2),
               {"normalise", 1, 0, 1, "1: divide by the sum of the weights, 0: RMSNorm per head"},
               {"rope", 1, 0, 1, "rotate q and k"}},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = state_shape,
    .forward = forward,
    .backward = backward,
    .flops = flops,
    .masks = HA_BOTH_MASKS,
};
