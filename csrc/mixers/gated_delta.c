/* Gated DeltaNet as the students of arXiv 2512.20569 use it: q, k, v = silu(x W), q and k of length 1 (q times
 * dim^-1/2), beta = sigmoid(x W_b), g = -exp(A_log) softplus(x W_a + dt_bias), output RMSNorm per head times silu(x W_g).
 *
 * Options: rope rotates q and k after normalisation, silu = 0 leaves q, k, v linear.
 * Decode state: [heads, dim, dim]. */
#include <math.h>
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/projections.h"
#include "ops/ops.h"

enum { SLOT_A_LOG = HA_SLOT_OWN, SLOT_DT_BIAS, SLOT_NORM };
enum { OPTION_ROPE, OPTION_SILU };

/* Columns of the joined projection: q, k, v, output gate [heads*dim each], beta and decay logits [heads each]. */
typedef struct {
    int heads, dim, inner, width, gate, beta, decay;
} layout;

static layout layout_of(const ha_config *c)
{
    int inner = c->num_heads * c->head_dim;
    return (layout){
        c->num_heads, c->head_dim, inner, 4 * inner + 2 * c->num_heads, 3 * inner, 4 * inner, 4 * inner + c->num_heads};
}

typedef struct {
    float *projected; /* [rows, width] before any activation */
    float *o;         /* [rows, inner] output of the recurrence */
    float *z;         /* [rows, inner] */
    float *states;
} saved_parts;

static ha_gated_delta shape_of(const ha_config *c)
{
    return (ha_gated_delta){c->num_heads, c->head_dim, c->head_dim};
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    layout l = layout_of(mixer->config);
    ha_gated_delta shape = shape_of(mixer->config);
    return (size_t)batch->rows * (size_t)(l.width + 2 * l.inner) + ha_gated_delta_states(&shape, batch);
}

static saved_parts parts(const layout *l, int rows, float *saved)
{
    float *o = saved + (size_t)rows * (size_t)l->width, *z = o + (size_t)rows * (size_t)l->inner;
    return (saved_parts){saved, o, z, z + (size_t)rows * (size_t)l->inner};
}

static ha_state_shape state_shape(const ha_mixer *mixer)
{
    const size_t heads = (size_t)mixer->config->num_heads, dim = (size_t)mixer->config->head_dim;
    return (ha_state_shape){.floats = heads * dim * dim};
}

static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    const ha_config *c = mixer->config;
    const int heads = c->num_heads;
    const ha_joined joined[] = {
        {"g_proj.weight", heads * c->head_dim}, {"b_proj.weight", heads}, {"a_proj.weight", heads}};
    HA_TRY(ha_declare_projections(mixer, prefix, layer, heads, 1, joined, 3, params));
    HA_TRY(ha_params_add(params, prefix, "A_log", HA_GROUP_MIXER, layer, 1, 0, 1, heads, 0, 0, &mixer->at[SLOT_A_LOG]));
    HA_TRY(ha_params_add(params, prefix, "dt_bias", HA_GROUP_MIXER, layer, 1, 0, 1, heads, 0, 0,
                         &mixer->at[SLOT_DT_BIAS]));
    return ha_params_add(params, prefix, "norm.weight", HA_GROUP_MIXER, layer, 1, 0, 1, c->head_dim, 0, 0,
                         &mixer->at[SLOT_NORM]);
}

static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    const ha_config *c = mixer->config;
    layout l = layout_of(c);
    ha_transfer_projections(mixer, softmax, c->num_heads, weights);
    float *w = weights + mixer->at[HA_SLOT_QKV];
    float deviation = 1.0f / sqrtf((float)c->hidden_size);
    for (ptrdiff_t i = (ptrdiff_t)l.gate * c->hidden_size; i < (ptrdiff_t)l.width * c->hidden_size; i++)
        w[i] = deviation * ha_rng_normal(rng);
    for (int h = 0; h < l.heads; h++) {
        /* Mamba-2's start, as Gated DeltaNet keeps it: A uniform in [1, 16), time step log-uniform in [0.001, 0.1) */
        double step = exp(ha_rng_uniform(rng) * log(100.0) + log(0.001));
        weights[mixer->at[SLOT_A_LOG] + (size_t)h] = (float)log(1.0 + 15.0 * ha_rng_uniform(rng));
        weights[mixer->at[SLOT_DT_BIAS] + (size_t)h] = (float)(step + log(-expm1(-step)));
    }
    for (int i = 0; i < l.dim; i++)
        weights[mixer->at[SLOT_NORM] + (size_t)i] = 1.0f;
}

/* The recurrence's operands, made from the projection: q, k, v [rows, inner], g and beta [rows, heads]. */
typedef struct {
    float *q, *k, *v, *g, *beta;
} operands;

static const float TINY = 1e-6f; /* under the root of a length, as fla has it */

static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

static ha_status prepare(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const float *projected,
                         operands *to)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int rows = pass->batch->rows, heads = l->heads, dim = l->dim, inner = l->inner;
    const float *a_log = ha_weight(mixer, pass, SLOT_A_LOG), *dt_bias = ha_weight(mixer, pass, SLOT_DT_BIAS);
    const int silu = mixer->option[OPTION_SILU];
    HA_PUSH(to->q, pass->arena, (size_t)rows * (size_t)inner);
    HA_PUSH(to->k, pass->arena, (size_t)rows * (size_t)inner);
    HA_PUSH(to->v, pass->arena, (size_t)rows * (size_t)inner);
    HA_PUSH(to->g, pass->arena, (size_t)rows * (size_t)heads);
    HA_PUSH(to->beta, pass->arena, (size_t)rows * (size_t)heads);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (rows > 4)
    for (int r = 0; r < rows; r++) {
        const float *p = projected + (ptrdiff_t)r * l->width;
        float *out[3] = {to->q + (ptrdiff_t)r * inner, to->k + (ptrdiff_t)r * inner, to->v + (ptrdiff_t)r * inner};
        for (int i = 0; i < 3; i++) {
            if (silu)
                kernel->silu((size_t)inner, p + i * inner, out[i]);
            else
                memcpy(out[i], p + i * inner, (size_t)inner * sizeof *p);
        }
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < heads; h++) {
                float *x = out[i] + (ptrdiff_t)h * dim;
                float length = 1.0f / sqrtf(kernel->dot((size_t)dim, x, x) + TINY);
                length *= i == 0 ? 1.0f / sqrtf((float)dim) : 1.0f;
                for (int j = 0; j < dim; j++)
                    x[j] *= length;
            }
        kernel->sigmoid((size_t)heads, p + l->beta, to->beta + (ptrdiff_t)r * heads);
        for (int h = 0; h < heads; h++)
            to->g[(ptrdiff_t)r * heads + h] = -expf(a_log[h]) * softplus(p[l->decay + h] + dt_bias[h]);
    }
    if (mixer->option[OPTION_ROPE]) {
        ha_rope(rows, heads, dim / 2, pass->cos, pass->sin, 1.0f, to->q, inner);
        ha_rope(rows, heads, dim / 2, pass->cos, pass->sin, 1.0f, to->k, inner);
    }
    return HA_OK;
}

/* y = rms_norm(o) * silu(gate), head by head */
static void gate_output(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const saved_parts *p, float *y)
{
    const ha_kernels *kernel = ha_kernels_get();
    const float *norm = ha_weight(mixer, pass, SLOT_NORM);
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (pass->batch->rows > 4)
    for (int r = 0; r < pass->batch->rows; r++) {
        float *to = y + (ptrdiff_t)r * l->inner;
        for (int h = 0; h < l->heads; h++)
            kernel->rms_norm(l->dim, p->o + (ptrdiff_t)r * l->inner + (ptrdiff_t)h * l->dim, norm,
                             mixer->config->norm_eps, to + (ptrdiff_t)h * l->dim);
        kernel->silu_mul((size_t)l->inner, p->projected + (ptrdiff_t)r * l->width + l->gate, to, to);
    }
}

static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(c);
    size_t mark = ha_arena_mark(pass->arena);
    int keep = saved != NULL;
    if (!saved)
        HA_PUSH(saved, pass->arena, (size_t)batch->rows * (size_t)(l.width + l.inner));
    saved_parts p = parts(&l, batch->rows, saved);
    operands in;
    float **states, *y;
    /* One GEMM for all projections; the q, k, v biases, if any, belong to the first three parts. */
    ha_linear_forward(batch->rows, c->hidden_size, l.width, 1.0f, x, c->hidden_size,
                      ha_projection(mixer, pass, HA_SLOT_QKV), NULL, 0.0f, p.projected, l.width);
    const float *bias = ha_weight(mixer, pass, HA_SLOT_QKV_BIAS);
    for (int r = 0; bias && r < batch->rows; r++)
        ha_kernels_get()->axpy((size_t)(3 * l.inner), 1.0f, bias, p.projected + (ptrdiff_t)r * l.width);
    HA_TRY(prepare(mixer, pass, &l, p.projected, &in));
    HA_PUSH(states, pass->arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++)
        states[s] = state ? state[s].data : NULL;
    ha_gated_delta shape = shape_of(c);
    HA_TRY(ha_gated_delta_forward(&shape, batch, in.q, in.k, l.inner, in.v, l.inner, in.g, in.beta,
                                  state ? states : NULL, state ? states : NULL, p.o, l.inner, keep ? p.z : NULL,
                                  keep ? p.states : NULL, pass->arena));
    HA_PUSH(y, pass->arena, (size_t)batch->rows * (size_t)l.inner);
    gate_output(mixer, pass, &l, &p, y);
    ha_project_out(mixer, pass, y, scale, out);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* Through the output gate and the head norm: do [rows, inner] and the gate's columns of dprojected, from dy. */
static ha_status gate_output_backward(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const saved_parts *p,
                                      const float *dy, float *d_o, float *dprojected)
{
    const ha_kernels *kernel = ha_kernels_get();
    const float *norm = ha_weight(mixer, pass, SLOT_NORM);
    float *dnorm = ha_grad(mixer, pass, SLOT_NORM), *normed;
    size_t mark = ha_arena_mark(pass->arena);
    const int rows = pass->batch->rows, inner = l->inner;
    HA_PUSH(normed, pass->arena, (size_t)rows * (size_t)inner);
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        float *n = normed + (ptrdiff_t)r * inner;
        for (int h = 0; h < l->heads; h++)
            kernel->rms_norm(l->dim, p->o + (ptrdiff_t)r * inner + (ptrdiff_t)h * l->dim, norm, mixer->config->norm_eps,
                             n + (ptrdiff_t)h * l->dim);
        kernel->silu_mul_backward((size_t)inner, p->projected + (ptrdiff_t)r * l->width + l->gate, n,
                                  dy + (ptrdiff_t)r * inner, dprojected + (ptrdiff_t)r * l->width + l->gate, n, NULL);
        memset(d_o + (ptrdiff_t)r * inner, 0, (size_t)inner * sizeof *d_o);
    }
    HA_TRY(ha_rms_norm_backward(rows * l->heads, l->dim, p->o, l->dim, norm, mixer->config->norm_eps, normed, l->dim,
                                d_o, l->dim, dnorm, pass->arena));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* y = x / sqrt(x.x + tiny) * factor: dx = factor r (dy - y (y . dy) / factor^2), r the inverse length; dy in place */
static void length_backward(int dim, const float *y, float inverse, float factor, float *dy)
{
    float along = ha_kernels_get()->dot((size_t)dim, y, dy) / factor;
    for (int j = 0; j < dim; j++)
        dy[j] = inverse * (factor * dy[j] - along * y[j]);
}

static ha_status prepare_backward(const ha_mixer *mixer, const ha_pass *pass, const layout *l, const float *projected,
                                  const operands *in, operands *d, float *dprojected)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int rows = pass->batch->rows, heads = l->heads, dim = l->dim, inner = l->inner;
    const float *a_log = ha_weight(mixer, pass, SLOT_A_LOG), *dt_bias = ha_weight(mixer, pass, SLOT_DT_BIAS);
    if (mixer->option[OPTION_ROPE]) {
        ha_rope(rows, heads, dim / 2, pass->cos, pass->sin, -1.0f, d->q, inner);
        ha_rope(rows, heads, dim / 2, pass->cos, pass->sin, -1.0f, d->k, inner);
        ha_unrotate(mixer, pass, heads, in->q, inner); /* lengths are undone on unrotated q and k */
        ha_unrotate(mixer, pass, heads, in->k, inner);
    }
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (int r = 0; r < rows; r++) {
        const float *p = projected + (ptrdiff_t)r * l->width;
        float *dp = dprojected + (ptrdiff_t)r * l->width;
        const float *y[2] = {in->q + (ptrdiff_t)r * inner, in->k + (ptrdiff_t)r * inner};
        float *dy[3] = {d->q + (ptrdiff_t)r * inner, d->k + (ptrdiff_t)r * inner, d->v + (ptrdiff_t)r * inner};
        for (int i = 0; i < 3; i++) {
            const float *x = p + i * inner;
            if (i < 2) {
                float *activated = dp + i * inner; /* scratch until its gradient is written */
                if (mixer->option[OPTION_SILU])
                    kernel->silu((size_t)inner, x, activated);
                else
                    memcpy(activated, x, (size_t)inner * sizeof *x);
                for (int h = 0; h < heads; h++) {
                    const float *a = activated + (ptrdiff_t)h * dim;
                    float inverse = 1.0f / sqrtf(kernel->dot((size_t)dim, a, a) + TINY);
                    length_backward(dim, y[i] + (ptrdiff_t)h * dim, inverse, i == 0 ? 1.0f / sqrtf((float)dim) : 1.0f,
                                    dy[i] + (ptrdiff_t)h * dim);
                }
            }
            if (mixer->option[OPTION_SILU])
                kernel->silu_backward((size_t)inner, x, dy[i], dp + i * inner);
            else
                memcpy(dp + i * inner, dy[i], (size_t)inner * sizeof *x);
        }
        for (int h = 0; h < heads; h++) {
            ptrdiff_t at = (ptrdiff_t)r * heads + h;
            float beta = in->beta[at], x = p[l->decay + h] + dt_bias[h];
            dp[l->beta + h] = d->beta[at] * beta * (1.0f - beta);
            dp[l->decay + h] = d->g[at] * -expf(a_log[h]) / (1.0f + expf(-x));
        }
    }
    float *da_log = ha_grad(mixer, pass, SLOT_A_LOG), *ddt_bias = ha_grad(mixer, pass, SLOT_DT_BIAS);
    for (int h = 0; da_log && h < heads; h++) {
        double a = 0.0, b = 0.0;
        for (int r = 0; r < rows; r++) {
            a += (double)d->g[(ptrdiff_t)r * heads + h] *
                 (double)in->g[(ptrdiff_t)r * heads + h]; /* d g / d A_log = g */
            b += (double)dprojected[(ptrdiff_t)r * l->width + l->decay + h];
        }
        da_log[h] += (float)a;
        ddt_bias[h] += (float)b;
    }
    return HA_OK;
}

static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const layout l = layout_of(c);
    const int rows = batch->rows;
    size_t mark = ha_arena_mark(pass->arena), wide = (size_t)rows * (size_t)l.inner;
    saved_parts p = parts(&l, rows, saved);
    operands in, d;
    float *y, *dy, *d_o, *dprojected;
    HA_PUSH(y, pass->arena, wide);
    HA_PUSH(dy, pass->arena, wide);
    gate_output(mixer, pass, &l, &p, y);
    ha_project_out_backward(mixer, pass, y, scale, dout, dy, gate);
    if (scale != 0.0f) {
        HA_PUSH(d_o, pass->arena, wide);
        HA_PUSH(dprojected, pass->arena, (size_t)rows * (size_t)l.width);
        HA_PUSH(d.q, pass->arena, wide);
        HA_PUSH(d.k, pass->arena, wide);
        HA_PUSH(d.v, pass->arena, wide);
        HA_PUSH(d.g, pass->arena, (size_t)rows * (size_t)l.heads);
        HA_PUSH(d.beta, pass->arena, (size_t)rows * (size_t)l.heads);
        HA_TRY(prepare(mixer, pass, &l, p.projected, &in));
        HA_TRY(gate_output_backward(mixer, pass, &l, &p, dy, d_o, dprojected));
        ha_gated_delta shape = shape_of(c);
        HA_TRY(ha_gated_delta_backward(&shape, batch, in.q, in.k, l.inner, in.v, l.inner, in.g, in.beta, p.o, l.inner,
                                       p.z, p.states, d_o, l.inner, NULL, d.q, d.k, l.inner, d.v, l.inner, d.g, d.beta,
                                       pass->arena));
        HA_TRY(prepare_backward(mixer, pass, &l, p.projected, &in, &d, dprojected));
        ha_linear_backward(rows, c->hidden_size, l.width, 1.0f, x, c->hidden_size,
                           ha_projection(mixer, pass, HA_SLOT_QKV), dprojected, l.width, 1.0f, dx, c->hidden_size,
                           ha_grad(mixer, pass, HA_SLOT_QKV), NULL);
        float *dbias = ha_grad(mixer, pass, HA_SLOT_QKV_BIAS);
        for (int r = 0; dbias && r < rows; r++)
            ha_kernels_get()->axpy((size_t)(3 * l.inner), 1.0f, dprojected + (ptrdiff_t)r * l.width, dbias);
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

static double flops(const ha_mixer *mixer, double context)
{
    layout l = layout_of(mixer->config);
    (void)context;
    return 2.0 * mixer->config->hidden_size * (l.width + l.inner) + 2.0 * l.inner * (3.0 * l.dim + 2.0 * HA_CHUNK);
}

const ha_mixer_kind ha_gated_delta_mixer = {
    .name = "gated_delta",
    .summary = "Gated DeltaNet: a gated delta-rule state of fixed size per head",
    .option = {{"rope", 0, 0, 1, "rotate q and k"}, {"silu", 1, 0, 1, "silu on q, k and v"}},
    .declare = declare,
    .init_from_softmax = init,
    .saved = saved_floats,
    .state = state_shape,
    .forward = forward,
    .backward = backward,
    .flops = flops,
};
