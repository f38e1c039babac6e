/* Exact softmax over the last `window` tokens and the first `sinks`, linear attention over the
 * rest, one normaliser (LoLCATs, Zhang et al. 2024, with the sinks of Xiao et al. 2023). Per head,
 * with s_ij the softmax logits, m_i the largest visible one and phi a feature map (feature_map.h):
 *     o_i = (sum_near exp(s_ij - m_i) v_j + e^gate sum_far phi(q_i).phi(k_j) v_j) / (the same sums without v)
 *
 * With near_i the softmax over the visible keys and lse_i its log-sum-exp, and lambda_i = exp(gate
 * + m_i - lse_i), that is (near_i + lambda_i far_i) / (1 + lambda_i den_i): the tiled softmax and
 * the chunked linear attention run as they are. In a bidirectional model the window reaches as far
 * to the right as to the left, and far tokens lie on both sides of it. Option rope_features: phi
 * sees rotated q and k. */
#include "mixers/window_linear_state.h"

#include <math.h>
#include <string.h>

#include "core/slices.h"
#include "core/thread.h"
#include "kernels/kernels.h"

typedef struct {
    float *qkv;                           /* [rows, width] */
    float *query_features, *key_features; /* [rows, heads or kv_heads, feature] */
    float *near, *log_sum, *largest;      /* of the window's softmax [rows, q], [rows, heads] */
    float *far, *denominators;            /* of the linear part [rows, q], [rows, heads] */
    float *before_norm;                   /* what ha_project_in keeps */
    float *states;
    size_t floats;
} saved_arrays;

/* Where they lie in `saved`; with NULL only `floats` is meant. */
static saved_arrays arrays_in(const ha_mixer *mixer, const ha_window_layout *l, const ha_batch *batch, float *saved)
{
    const size_t n = (size_t)batch->rows;
    const ha_linear_attention rest = ha_window_rest(l, l->window);
    ha_slices slices = {saved, 0};
    saved_arrays p;
    p.qkv = ha_slice(&slices, n * (size_t)l->width);
    p.query_features = ha_slice(&slices, n * (size_t)(l->heads * l->feature));
    p.key_features = ha_slice(&slices, n * (size_t)(l->kv_heads * l->feature));
    p.near = ha_slice(&slices, n * (size_t)l->q);
    p.far = ha_slice(&slices, n * (size_t)l->q);
    p.denominators = ha_slice(&slices, n * (size_t)l->heads);
    p.log_sum = ha_slice(&slices, n * (size_t)l->heads);
    p.largest = ha_slice(&slices, n * (size_t)l->heads);
    p.before_norm = ha_slice(&slices, ha_project_in_saved(mixer, batch->rows));
    p.states = ha_slice(&slices, ha_linear_attention_states(&rest, batch));
    p.floats = slices.used;
    return p;
}

/* The layout of a pass without a state: where the window is hidden, softmax sees the token itself
 * and the sinks, and the linear part all others. */
static ha_window_layout layout_in(const ha_mixer *mixer)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    if (mixer->branch == HA_BRANCH_LINEAR)
        l.window = 1;
    return l;
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    const ha_window_layout l = layout_in(mixer);
    return arrays_in(mixer, &l, batch, NULL).floats;
}

/* Adds the parameters and sets their places in mixer->at. */
static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    const ha_config *c = mixer->config;
    HA_TRY(ha_declare_projections(mixer, prefix, layer, c->num_kv_heads, 0, NULL, 0, params));
    HA_TRY(
        ha_features_declare(mixer, prefix, layer, (ha_feature)mixer->option[OPTION_FEATURE], SLOT_FEATURE_Q, params));
    const ha_param gate = {.group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = 1, .shape = {c->num_heads}};
    return ha_params_add(params, prefix, "gate", &gate, &mixer->at[SLOT_GATE]);
}

/* The gate starts low: the mass of the far keys grows with their number, and from e^0 it drowns the
 * window in long texts (docs/log.md). */
static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    const ha_config *c = mixer->config;
    ha_transfer_projections(mixer, softmax, c->num_kv_heads, weights);
    ha_features_init(mixer, (ha_feature)mixer->option[OPTION_FEATURE], SLOT_FEATURE_Q, weights, rng);
    for (int h = 0; h < c->num_heads; h++)
        weights[mixer->at[SLOT_GATE] + (size_t)h] = -4.0f;
}

static int is_sink(const ha_window_layout *l, const ha_batch *batch, int row)
{
    return batch->position[row] < l->sinks;
}

/* lambda, 0 where softmax is alone, and 1 / (1 + lambda den) of one row and head. From e^60 on the window adds less than the last bit, and e^89
 * is infinite: NaN in rows that have no far keys. */
static void weights_of(const ha_mixer *mixer, float gate, const saved_arrays *p, ptrdiff_t at, float *lambda,
                       float *share)
{
    *lambda = mixer->branch == HA_BRANCH_SOFTMAX ? 0.0f : expf(fminf(gate + p->largest[at] - p->log_sum[at], 60.0f));
    *share = 1.0f / (1.0f + *lambda * p->denominators[at]);
}

/* y [rows, heads, dim] = (near + lambda far) / (1 + lambda denominator) */
static void merge(const ha_mixer *mixer, const ha_pass *pass, const ha_window_layout *l, const saved_arrays *p,
                  float *y)
{
    const float *gate = ha_weight(mixer, pass, SLOT_GATE);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (pass->batch->rows > 8)
    for (int r = 0; r < pass->batch->rows; r++)
        for (int h = 0; h < l->heads; h++) {
            ptrdiff_t at = (ptrdiff_t)r * l->heads + h;
            const float *near = p->near + at * l->dim, *far = p->far + at * l->dim;
            float lambda, share;
            weights_of(mixer, gate[h], p, at, &lambda, &share);
            for (int c = 0; c < l->dim; c++)
                y[at * l->dim + c] = share * (near[c] + lambda * far[c]);
        }
}

/* Features of q and k of qkv [rows, width]; those of sinks are cleared. */
static ha_status features(const ha_mixer *mixer, const ha_pass *pass, const ha_window_layout *l, const float *qkv,
                          saved_arrays *p)
{
    const ha_batch *batch = pass->batch;
    HA_TRY(ha_features_forward(mixer, pass, l->map, SLOT_FEATURE_Q, qkv, p->query_features, p->key_features));
    for (int r = 0; r < batch->rows; r++)
        if (is_sink(l, batch, r))
            memset(p->key_features + (ptrdiff_t)r * l->kv_heads * l->feature, 0,
                   (size_t)(l->kv_heads * l->feature) * sizeof *p->key_features);
    return HA_OK;
}

/* What the far sums are taken over. */
static ha_status far_operands(const ha_window_layout *l, const ha_batch *batch, const saved_arrays *p,
                              ha_linear_attention_in *operands, ha_arena *arena)
{
    const ha_linear_attention rest = ha_window_rest(l, l->window);
    const ha_features features = {p->query_features, p->key_features};
    const ha_rows values = ha_rows_of(p->qkv + l->q + l->kv, l->width);
    return ha_features_operands(&rest, batch, &features, values, operands, arena);
}

/* x [rows, hidden]; out [rows, hidden] += scale times the result; saved, state [n_seq]: or NULL.
 * See mixer.h. */
static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_batch *batch = pass->batch;
    const ha_window_layout l = state ? ha_window_layout_of(mixer) : layout_in(mixer);
    const int rows = batch->rows;
    size_t mark = ha_arena_mark(pass->arena);
    if (!saved)
        HA_PUSH(saved, pass->arena, saved_floats(mixer, batch));
    saved_arrays p = arrays_in(mixer, &l, batch, saved);
    ha_project_in(mixer, pass, x, p.qkv, p.before_norm);
    if (!l.rope_features)
        HA_TRY(features(mixer, pass, &l, p.qkv, &p));
    ha_rotate(mixer, pass, l.heads + l.kv_heads, 1.0f, p.qkv, l.width);
    if (l.rope_features)
        HA_TRY(features(mixer, pass, &l, p.qkv, &p));
    if (state) {
        const ha_window_parts now = {p.qkv, p.query_features, p.key_features, p.near,
                                     p.far, p.denominators,   p.log_sum,      p.largest};
        HA_TRY(ha_window_continue(mixer, pass, &now, state));
    } else {
        const ha_attention near = ha_window_attention(&l);
        const ha_linear_attention rest = ha_window_rest(&l, l.window);
        ha_keys *keys;
        ha_linear_attention_in operands;
        const ha_linear_attention_out far = {ha_rows_to(p.far, l.q), p.denominators};
        HA_PUSH(keys, pass->arena, (size_t)batch->n_seq);
        for (int s = 0; s < batch->n_seq; s++) {
            ptrdiff_t row = batch->offset[s];
            const float *k = p.qkv + row * l.width + l.q;
            keys[s] = (ha_keys){
                .k = k, .v = k + l.kv, .row = l.width, .head_stride = l.dim, .length = batch->offset[s + 1] - (int)row};
        }
        HA_TRY(far_operands(&l, batch, &p, &operands, pass->arena));
        const ha_attention_out beside = {ha_rows_to(p.near, l.q), p.log_sum, p.largest};
        HA_TRY(ha_attention_forward(&near, batch, ha_rows_of(p.qkv, l.width), keys, &beside, pass->arena));
        HA_TRY(ha_linear_attention_forward(&rest, batch, &operands, NULL, &far, p.states, pass->arena));
    }
    float *y;
    HA_PUSH(y, pass->arena, (size_t)rows * (size_t)l.q);
    merge(mixer, pass, &l, &p, y);
    ha_project_out(mixer, pass, y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* The gradients that merge_backward makes: near, which is dy before, and far [rows, heads, dim];
 * denominator, and delta and largest, which attention_backward takes [rows, heads]. */
typedef struct {
    float *near, *far, *denominator, *delta, *largest;
} merge_gradient;

/* Gradients of merge, whose result was y:
 *     dnear = share dy,  dfar = lambda share dy,  dden = -lambda share <dy, y>,
 *     dlambda = share (<dy, far> - den <dy, y>),  and log lambda = gate + max - lse. */
static void merge_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_window_layout *l, const saved_arrays *p,
                           const float *y, const merge_gradient *to)
{
    const ha_kernels *kernel = ha_kernels_get();
    const float *gate = ha_weight(mixer, pass, SLOT_GATE);
    const size_t dim = (size_t)l->dim;
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (pass->batch->rows > 8)
    for (int r = 0; r < pass->batch->rows; r++)
        for (int h = 0; h < l->heads; h++) {
            ptrdiff_t at = (ptrdiff_t)r * l->heads + h;
            float *d = to->near + at * l->dim, lambda, share;
            weights_of(mixer, gate[h], p, at, &lambda, &share);
            float along = kernel->dot(dim, d, y + at * l->dim);
            float dlog = lambda * share * (kernel->dot(dim, d, p->far + at * l->dim) - p->denominators[at] * along);
            to->denominator[at] = -lambda * share * along;
            for (size_t c = 0; c < dim; c++) {
                d[c] *= share;
                to->far[(size_t)at * dim + c] = lambda * d[c];
            }
            to->delta[at] = kernel->dot(dim, d, p->near + at * l->dim) + dlog;
            to->largest[at] = dlog;
        }
    float *dgate = ha_grad(mixer, pass, SLOT_GATE);
    for (int h = 0; dgate && h < l->heads; h++) {
        double sum = 0.0;
        for (int r = 0; r < pass->batch->rows; r++)
            sum += (double)to->largest[(ptrdiff_t)r * l->heads + h];
        dgate[h] += (float)sum;
    }
}

/* dout [rows, hidden] -> dx [rows, hidden] += unless NULL, the weights' gradients, and gate [n_seq]
 * unless NULL. */
static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_batch *batch = pass->batch;
    const ha_window_layout l = layout_in(mixer);
    const int rows = batch->rows, fq = l.heads * l.feature, fk = l.kv_heads * l.feature;
    const size_t n = (size_t)rows;
    size_t mark = ha_arena_mark(pass->arena);
    saved_arrays p = arrays_in(mixer, &l, batch, saved);
    float *y, *dy;
    HA_PUSH(y, pass->arena, n * (size_t)l.q);
    HA_PUSH(dy, pass->arena, n * (size_t)l.q);
    merge(mixer, pass, &l, &p, y);
    ha_project_out_backward(mixer, pass, y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        merge_gradient merged = {.near = dy};
        float *dqkv, *dv, *dfq, *dfk;
        HA_PUSH(merged.far, pass->arena, n * (size_t)l.q);
        HA_PUSH(merged.denominator, pass->arena, n * (size_t)l.heads);
        HA_PUSH(merged.delta, pass->arena, n * (size_t)l.heads);
        HA_PUSH(merged.largest, pass->arena, n * (size_t)l.heads);
        HA_PUSH(dqkv, pass->arena, n * (size_t)l.width);
        HA_PUSH(dv, pass->arena, n * (size_t)l.kv);
        HA_PUSH(dfq, pass->arena, n * (size_t)fq);
        HA_PUSH(dfk, pass->arena, n * (size_t)fk);
        merge_backward(mixer, pass, &l, &p, y, &merged);
        const ha_attention near = ha_window_attention(&l);
        const ha_linear_attention rest = ha_window_rest(&l, l.window);
        const ha_attention_saved kept = {.queries = ha_rows_of(p.qkv, l.width),
                                         .keys = ha_rows_of(p.qkv + l.q, l.width),
                                         .values = ha_rows_of(p.qkv + l.q + l.kv, l.width),
                                         .key_offset = batch->offset,
                                         .log_sum = p.log_sum,
                                         .largest = p.largest};
        const ha_attention_upstream down = {ha_rows_of(merged.near, l.q), merged.delta, merged.largest};
        const ha_attention_gradient into = {ha_rows_to(dqkv, l.width), ha_rows_to(dqkv + l.q, l.width),
                                            ha_rows_to(dqkv + l.q + l.kv, l.width)};
        /* Step 1 trains the feature maps and the gate: nothing behind q, k and v wants a
         * gradient. */
        const int projections = dx || ha_grad(mixer, pass, HA_SLOT_QKV);
        if (projections)
            HA_TRY(ha_attention_backward(&near, batch, &kept, &down, &into, pass->arena));
        else
            memset(dqkv, 0, n * (size_t)l.width * sizeof *dqkv);
        ha_linear_attention_in operands;
        const ha_linear_attention_upstream upstream = {ha_rows_of(merged.far, l.q), merged.denominator};
        const ha_linear_attention_gradient gradient = {ha_rows_to(dfq, fq), ha_rows_to(dfk, fk), ha_rows_to(dv, l.kv)};
        HA_TRY(far_operands(&l, batch, &p, &operands, pass->arena));
        HA_TRY(ha_linear_attention_backward(&rest, batch, &operands, p.states, &upstream, &gradient, pass->arena));
        for (int r = 0; r < rows; r++) {
            if (is_sink(&l, batch, r))
                memset(dfk + (ptrdiff_t)r * fk, 0, (size_t)fk * sizeof *dfk);
            ha_kernels_get()->axpy((size_t)l.kv, 1.0f, dv + (ptrdiff_t)r * l.kv,
                                   dqkv + (ptrdiff_t)r * l.width + l.q + l.kv);
        }
        const int turned = l.heads + l.kv_heads;
        if (!l.rope_features) { /* phi saw unrotated q and k: turn both back first */
            ha_unrotate(mixer, pass, turned, p.qkv, l.width);
            ha_rotate(mixer, pass, turned, -1.0f, dqkv, l.width);
        }
        const ha_features made = {p.query_features, p.key_features}, slopes = {dfq, dfk};
        HA_TRY(ha_features_backward(mixer, pass, l.map, SLOT_FEATURE_Q, p.qkv, &made, &slopes, dqkv));
        if (l.rope_features && projections)
            ha_rotate(mixer, pass, turned, -1.0f, dqkv, l.width);
        HA_TRY(ha_project_in_backward(mixer, pass, x, p.before_norm, dqkv, dx));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* Forward FLOP of a token that sees `context` tokens. */
static double flops(const ha_mixer *mixer, double context)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    const int sides = 1 + l.bidirectional, most = sides * (l.window - 1) + 1 + l.sinks;
    double near = context < most ? context : most;
    double far = context > near ? sides * 4.0 * l.q * l.feature : 0.0;
    return 2.0 * mixer->config->hidden_size * (l.width + l.q) + 4.0 * l.q * near + far +
           (ha_feature_has_weight(l.map) ? 2.0 * (l.q + l.kv) * l.dim : 0.0);
}

const ha_mixer_kind ha_window_linear_mixer = {
    .name = "window_linear",
    .summary = "exact softmax in a sliding window and over attention sinks, linear attention for the rest",
    .phrase = "exact attention to a short window and the first few tokens, linear attention to the rest",
    .align_rate = 0.01,
    .option = {{"window", 64, 1, 1 << 20, "tokens of exact attention"},
               {"sinks", 4, 0, 1 << 16, "first tokens that stay in sight"},
               {"rope_features", 1, 0, 1, "feature maps see rotated q and k"},
               HA_FEATURE_OPTION(2)},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = ha_window_state,
    .forward = forward,
    .backward = backward,
    .flops = flops,
    .masks = HA_BOTH_MASKS,
};
