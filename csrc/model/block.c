/* One layer: x += mixers(norm(x)); x += mlp(norm(x)).
 *
 * Saved for the backward pass: the input, what the mixers keep, the input of the MLP, and gate and up before SwiGLU.
 * Norms and the SwiGLU product are made again: a pass over memory is cheaper than keeping them. */
#include <string.h>

#include "core/thread.h"
#include "model/model.h"
#include "ops/ops.h"

typedef struct {
    float *x, *softmax, *linear, *middle, *gate_up;
} saved_parts;

static size_t wide(const ha_batch *batch, int columns)
{
    return (size_t)batch->rows * (size_t)columns;
}

static saved_parts parts(const ha_model *m, const ha_layer *layer, ha_layer_run run, const ha_batch *batch,
                         float *saved)
{
    saved_parts p;
    const size_t x = wide(batch, m->config.hidden_size);
    p.x = saved;
    p.softmax = p.x + x;
    p.linear = p.softmax + (ha_runs_softmax(layer, run) ? layer->softmax.kind->saved(&layer->softmax, batch) : 0);
    p.middle = p.linear + (ha_runs_linear(layer, run) ? layer->linear.kind->saved(&layer->linear, batch) : 0);
    p.gate_up = p.middle + x;
    return p;
}

size_t ha_layer_saved(const ha_model *m, int l, ha_layer_run run, const ha_batch *batch)
{
    saved_parts p = parts(m, &m->layer[l], run, batch, NULL);
    return (size_t)(p.gate_up - p.x) + wide(batch, 2 * m->config.intermediate_size);
}

static ha_matrix matrix(const ha_pass *pass, size_t offset)
{
    return ha_params_matrix(pass->params, pass->weights, offset);
}

static ha_status mlp_forward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, float *x, float *gate_up)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size;
    const float *w = pass->weights;
    float *h, *act;
    HA_PUSH(h, pass->arena, wide(pass->batch, d));
    HA_PUSH(act, pass->arena, wide(pass->batch, f));
    ha_rms_norm_forward(rows, d, x, d, w + layer->mlp_norm, c->norm_eps, h, d);
    ha_linear_forward(rows, d, 2 * f, 1.0f, h, d, matrix(pass, layer->gate_up),
                      c->mlp_bias ? w + layer->gate_up_bias : NULL, 0.0f, gate_up, 2 * f);
    ha_swiglu_forward(rows, f, gate_up, act);
    ha_linear_forward(rows, f, d, 1.0f, act, f, matrix(pass, layer->down), c->mlp_bias ? w + layer->down_bias : NULL,
                      1.0f, x, d);
    return HA_OK;
}

/* to = from, or 0 without one, shared out: a serial pass between two products costs the more, the more threads they use. */
static void copy(size_t n, const float *from, float *to)
{
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE) {
        size_t bytes = (n - at < PIECE ? n - at : PIECE) * sizeof *to;
        if (from)
            memcpy(to + at, from + at, bytes);
        else
            memset(to + at, 0, bytes);
    }
}

ha_status ha_layer_forward(const ha_model *m, int l, ha_layer_run run, const ha_pass *pass, float *x, float *saved,
                           ha_cache *cache)
{
    const ha_layer *layer = &m->layer[l];
    const int rows = pass->batch->rows, d = m->config.hidden_size;
    size_t mark = ha_arena_mark(pass->arena), n = wide(pass->batch, d);
    saved_parts p = {0};
    float *h;
    if (saved)
        p = parts(m, layer, run, pass->batch, saved);
    else
        HA_PUSH(p.gate_up, pass->arena, wide(pass->batch, 2 * m->config.intermediate_size));
    HA_PUSH(h, pass->arena, wide(pass->batch, d));
    if (saved)
        copy(n, x, p.x);
    ha_rms_norm_forward(rows, d, x, d, pass->weights + layer->mixer_norm, m->config.norm_eps, h, d);
    if (ha_runs_softmax(layer, run))
        HA_TRY(layer->softmax.kind->forward(&layer->softmax, pass, h, run.gate, x, saved ? p.softmax : NULL,
                                            cache ? ha_cache_state(cache, l, 0) : NULL));
    if (ha_runs_linear(layer, run))
        HA_TRY(layer->linear.kind->forward(&layer->linear, pass, h, 1.0f - run.gate, x, saved ? p.linear : NULL,
                                           cache ? ha_cache_state(cache, l, 1) : NULL));
    if (saved)
        copy(n, x, p.middle);
    HA_TRY(mlp_forward(m, layer, pass, x, p.gate_up));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_layer_finish(const ha_model *m, int l, const ha_pass *pass, const float *mixed, float *x)
{
    size_t mark = ha_arena_mark(pass->arena);
    float *gate_up;
    HA_PUSH(gate_up, pass->arena, wide(pass->batch, 2 * m->config.intermediate_size));
    const size_t n = wide(pass->batch, m->config.hidden_size);
#pragma omp parallel for schedule(static) num_threads(ha_threads())
    for (size_t i = 0; i < n; i++)
        x[i] += mixed[i];
    HA_TRY(mlp_forward(m, &m->layer[l], pass, x, gate_up));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

static ha_status mlp_backward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const saved_parts *p,
                              float *dx)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size;
    const float *w = pass->weights;
    float *g = pass->grads, *act, *dact, *h, *dh;
    size_t mark = ha_arena_mark(pass->arena);
    HA_PUSH(act, pass->arena, wide(pass->batch, f));
    HA_PUSH(dact, pass->arena, wide(pass->batch, f));
    HA_PUSH(h, pass->arena, wide(pass->batch, d));
    HA_PUSH(dh, pass->arena, wide(pass->batch, d));
    ha_linear_backward(rows, f, d, 1.0f, NULL, f, matrix(pass, layer->down), dx, d, 0.0f, dact, f, NULL, NULL);
    ha_swiglu_backward(rows, f, p->gate_up, dact, g ? act : NULL);
    if (g) {
        ha_linear_backward(rows, f, d, 1.0f, act, f, ha_f32(NULL), dx, d, 0.0f, NULL, f, g + layer->down,
                           c->mlp_bias ? g + layer->down_bias : NULL);
        ha_rms_norm_forward(rows, d, p->middle, d, w + layer->mlp_norm, c->norm_eps, h, d);
    }
    ha_linear_backward(rows, d, 2 * f, 1.0f, h, d, matrix(pass, layer->gate_up), p->gate_up, 2 * f, 0.0f, dh, d,
                       g ? g + layer->gate_up : NULL, g && c->mlp_bias ? g + layer->gate_up_bias : NULL);
    HA_TRY(ha_rms_norm_backward(rows, d, p->middle, d, w + layer->mlp_norm, c->norm_eps, dh, d, dx, d,
                                g ? g + layer->mlp_norm : NULL, pass->arena));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_layer_backward(const ha_model *m, int l, ha_layer_run run, const ha_pass *pass, float *saved, float *dx,
                            double *dgate)
{
    const ha_layer *layer = &m->layer[l];
    const ha_config *c = &m->config;
    const ha_batch *batch = pass->batch;
    const int rows = batch->rows, d = c->hidden_size;
    size_t mark = ha_arena_mark(pass->arena);
    saved_parts p = parts(m, layer, run, batch, saved);
    HA_TRY(mlp_backward(m, layer, pass, &p, dx));
    float *h, *dh;
    double *dot[2] = {NULL, NULL};
    HA_PUSH(h, pass->arena, wide(batch, d));
    HA_PUSH(dh, pass->arena, wide(batch, d));
    if (dgate) {
        HA_PUSH(dot[0], pass->arena, 2 * (size_t)batch->n_seq);
        dot[1] = dot[0] + batch->n_seq;
        memset(dot[0], 0, 2 * (size_t)batch->n_seq * sizeof *dot[0]);
    }
    ha_rms_norm_forward(rows, d, p.x, d, pass->weights + layer->mixer_norm, c->norm_eps, h, d);
    copy(wide(batch, d), NULL, dh);
    if (ha_runs_softmax(layer, run))
        HA_TRY(layer->softmax.kind->backward(&layer->softmax, pass, h, run.gate, p.softmax, dx, dh, dot[0]));
    if (ha_runs_linear(layer, run))
        HA_TRY(layer->linear.kind->backward(&layer->linear, pass, h, 1.0f - run.gate, p.linear, dx, dh, dot[1]));
    for (int s = 0; dgate && s < batch->n_seq; s++)
        dgate[s] = layer->softmax.kind && layer->linear.kind ? dot[0][s] - dot[1][s] : 0.0;
    HA_TRY(ha_rms_norm_backward(rows, d, p.x, d, pass->weights + layer->mixer_norm, c->norm_eps, dh, d, dx, d,
                                pass->grads ? pass->grads + layer->mixer_norm : NULL, pass->arena));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
