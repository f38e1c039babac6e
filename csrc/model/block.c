/* One layer, in the four forms of config.h: mixers M and MLP F, each with its norm N before it
 * (PRE), behind its sum (POST), both before both (PARALLEL), or before it and behind it, in front of
 * the sum (SANDWICH).
 *
 * Saved for the backward pass: the input, what the mixers keep, x + M where it is looked at again,
 * the MLP's inner floats, and the input of the last norm in POST, of both norms in front of a sum in
 * SANDWICH. Norms and activations are made again: a pass over memory is cheaper than keeping them. */
#include <string.h>

#include "core/slices.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/trail.h"
#include "model/parts.h"

typedef struct {
    float *x, *softmax, *linear, *mixed, *middle, *inner, *last;
    size_t floats;
} saved_parts;

/* Where they lie in `saved`; with NULL only `floats` is meant. */
static saved_parts parts(const ha_model *m, const ha_layer *layer, ha_layer_run run, const ha_batch *batch,
                         float *saved)
{
    const ha_block_form form = m->config.block;
    const size_t x = ha_wide(batch, m->config.hidden_size);
    ha_slices slices = {saved, 0};
    saved_parts p;
    p.x = ha_slice(&slices, x);
    p.softmax = ha_slice(&slices, ha_runs_softmax(layer, run) ? layer->softmax.kind->saved(&layer->softmax, batch) : 0);
    p.linear = ha_slice(&slices, ha_runs_linear(layer, run) ? layer->linear.kind->saved(&layer->linear, batch) : 0);
    p.mixed = ha_slice(&slices, form == HA_BLOCK_SANDWICH ? x : 0);
    p.middle = ha_slice(&slices, form == HA_BLOCK_PARALLEL ? 0 : x);
    p.inner = ha_slice(&slices, ha_wide(batch, ha_mlp_inner(&m->config)));
    p.last = ha_slice(&slices, form == HA_BLOCK_POST || form == HA_BLOCK_SANDWICH ? x : 0);
    p.floats = slices.used;
    return p;
}

size_t ha_layer_saved(const ha_model *m, int l, ha_layer_run run, const ha_batch *batch)
{
    return parts(m, &m->layer[l], run, batch, NULL).floats;
}

static void add(size_t n, const float *from, float *to)
{
    enum { PIECE = 8192 };
#pragma omp parallel for schedule(static) num_threads(ha_threads()) if (n > PIECE)
    for (size_t at = 0; at < n; at += PIECE)
        ha_kernels_get()->axpy(n - at < PIECE ? n - at : PIECE, 1.0f, from + at, to + at);
}

void ha_layer_input(const ha_model *m, int l, const ha_pass *pass, const float *x, float *h)
{
    if (m->config.block == HA_BLOCK_POST)
        ha_copy(ha_wide(pass->batch, m->config.hidden_size), x, h);
    else
        ha_norm_forward(m, m->layer[l].mixer_norm, pass, x, h);
}

/* x += N(what), of SANDWICH. */
static ha_status add_normed(const ha_model *m, ha_norm norm, const ha_pass *pass, const float *what, float *x)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    float *y;
    HA_PUSH(y, pass->arena, n);
    ha_norm_forward(m, norm, pass, what, y);
    add(n, y, x);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* What PARALLEL's MLP sees, to be taken before the mixers change x. */
static ha_status parallel_input(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const float *x,
                                float **h)
{
    *h = NULL;
    if (m->config.block != HA_BLOCK_PARALLEL)
        return HA_OK;
    HA_PUSH(*h, pass->arena, ha_wide(pass->batch, m->config.hidden_size));
    ha_norm_forward(m, layer->mlp_norm, pass, x, *h);
    return HA_OK;
}

/* x + M(x) becomes the layer's output. h [rows, hidden]: parallel_input, or scratch. */
static ha_status finish(const ha_model *m, const ha_layer *layer, const ha_pass *pass, float *x, float *h,
                        const saved_parts *p, int keep)
{
    const size_t n = ha_wide(pass->batch, m->config.hidden_size);
    const ha_block_form form = m->config.block;
    if (keep && form != HA_BLOCK_PARALLEL)
        ha_copy(n, x, p->middle);
    if (form == HA_BLOCK_PRE || form == HA_BLOCK_SANDWICH)
        ha_norm_forward(m, layer->mlp_norm, pass, x, h);
    if (form == HA_BLOCK_POST)
        ha_norm_forward(m, layer->mixer_norm, pass, x, x);
    if (form == HA_BLOCK_SANDWICH) {
        const size_t mark = ha_arena_mark(pass->arena);
        float *out = p->last;
        if (!keep)
            HA_PUSH(out, pass->arena, n);
        ha_copy(n, NULL, out);
        HA_TRY(ha_mlp_forward(m, layer, pass, h, p->inner, out));
        HA_TRY(add_normed(m, layer->mlp_post_norm, pass, out, x));
        ha_arena_release(pass->arena, mark);
        return HA_OK;
    }
    HA_TRY(ha_mlp_forward(m, layer, pass, form == HA_BLOCK_POST ? x : h, p->inner, x));
    if (form != HA_BLOCK_POST)
        return HA_OK;
    if (keep)
        ha_copy(n, x, p->last);
    ha_norm_forward(m, layer->mlp_norm, pass, x, x);
    return HA_OK;
}

ha_status ha_layer_forward(const ha_model *m, int l, ha_layer_run run, const ha_pass *pass, float *x, float *saved,
                           ha_cache *cache)
{
    const ha_layer *layer = &m->layer[l];
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    saved_parts p = {0};
    float *h, *beside;
    if (saved)
        p = parts(m, layer, run, pass->batch, saved);
    else
        HA_PUSH(p.inner, pass->arena, ha_wide(pass->batch, ha_mlp_inner(&m->config)));
    HA_PUSH(h, pass->arena, n);
    if (saved)
        ha_copy(n, x, p.x);
    ha_layer_input(m, l, pass, x, h);
    HA_TRY(parallel_input(m, layer, pass, x, &beside));
    float *mixed = x; /* what the mixers are added to */
    if (m->config.block == HA_BLOCK_SANDWICH) {
        mixed = p.mixed;
        if (!saved)
            HA_PUSH(mixed, pass->arena, n);
        ha_copy(n, NULL, mixed);
    }
    if (ha_runs_softmax(layer, run))
        HA_TRY(ha_trail_forward(&layer->softmax, pass, h, run.gate, mixed, saved ? p.softmax : NULL,
                                cache ? ha_cache_state(cache, l, 0) : NULL));
    if (ha_runs_linear(layer, run))
        HA_TRY(ha_trail_forward(&layer->linear, pass, h, 1.0f - run.gate, mixed, saved ? p.linear : NULL,
                                cache ? ha_cache_state(cache, l, 1) : NULL));
    if (mixed != x)
        HA_TRY(add_normed(m, layer->mixer_post_norm, pass, mixed, x));
    HA_TRY(finish(m, layer, pass, x, beside ? beside : h, &p, saved != NULL));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_layer_finish(const ha_model *m, int l, const ha_pass *pass, const float *mixed, float *x)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    saved_parts p = {0};
    float *h;
    HA_PUSH(p.inner, pass->arena, ha_wide(pass->batch, ha_mlp_inner(&m->config)));
    HA_TRY(parallel_input(m, &m->layer[l], pass, x, &h));
    if (!h)
        HA_PUSH(h, pass->arena, n);
    if (m->config.block == HA_BLOCK_SANDWICH)
        HA_TRY(add_normed(m, m->layer[l].mixer_post_norm, pass, mixed, x));
    else
        add(n, mixed, x);
    HA_TRY(finish(m, &m->layer[l], pass, x, h, &p, 0));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* The gradient of what a norm in front of a sum saw, from that of the sum: a copy of dx through the norm in
 * SANDWICH, dx itself in the other forms. The copy is on the arena. */
static ha_status before_sum(const ha_model *m, ha_norm norm, const ha_pass *pass, const float *seen, float *dx,
                            float **out)
{
    *out = dx;
    if (m->config.block != HA_BLOCK_SANDWICH)
        return HA_OK;
    const size_t n = ha_wide(pass->batch, m->config.hidden_size);
    HA_PUSH(*out, pass->arena, n);
    ha_copy(n, dx, *out);
    return ha_norm_through(m, norm, pass, seen, *out);
}

/* From dx of the layer's output to that of x + M, but for PARALLEL, where dx stays and `beside`
 * gets the gradient of what the MLP saw. */
static ha_status mlp_backward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const saved_parts *p,
                              float *dx, float *beside)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    const ha_block_form form = m->config.block;
    const float *seen = form == HA_BLOCK_PARALLEL ? p->x : p->middle;
    float *h, *dout, *dh = beside;
    HA_PUSH(h, pass->arena, n);
    if (!dh)
        HA_PUSH(dh, pass->arena, n);
    if (form == HA_BLOCK_POST)
        HA_TRY(ha_norm_through(m, layer->mlp_norm, pass, p->last, dx));
    if (pass->grads)
        ha_norm_forward(m, form == HA_BLOCK_POST ? layer->mixer_norm : layer->mlp_norm, pass, seen, h);
    HA_TRY(before_sum(m, layer->mlp_post_norm, pass, p->last, dx, &dout));
    HA_TRY(ha_mlp_backward(m, layer, pass, h, p->inner, dout, dh));
    if (form == HA_BLOCK_PRE || form == HA_BLOCK_SANDWICH)
        HA_TRY(ha_norm_backward(m, layer->mlp_norm, pass, seen, dh, dx));
    if (form == HA_BLOCK_POST) {
        add(n, dh, dx);
        HA_TRY(ha_norm_through(m, layer->mixer_norm, pass, seen, dx));
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* From dx of x + M to that of x. */
static ha_status mixers_backward(const ha_model *m, int l, ha_layer_run run, const ha_pass *pass, const saved_parts *p,
                                 float *dx, double *dgate)
{
    const ha_layer *layer = &m->layer[l];
    const ha_batch *batch = pass->batch;
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(batch, m->config.hidden_size);
    float *h, *dh, *dout;
    double *dot[2] = {NULL, NULL};
    HA_PUSH(h, pass->arena, n);
    HA_PUSH(dh, pass->arena, n);
    if (dgate) {
        HA_PUSH(dot[0], pass->arena, 2 * (size_t)batch->n_seq);
        dot[1] = dot[0] + batch->n_seq;
        memset(dot[0], 0, 2 * (size_t)batch->n_seq * sizeof *dot[0]);
    }
    ha_layer_input(m, l, pass, p->x, h);
    ha_copy(n, NULL, dh);
    HA_TRY(before_sum(m, layer->mixer_post_norm, pass, p->mixed, dx, &dout));
    if (ha_runs_softmax(layer, run))
        HA_TRY(layer->softmax.kind->backward(&layer->softmax, pass, h, run.gate, p->softmax, dout, dh, dot[0]));
    if (ha_runs_linear(layer, run))
        HA_TRY(layer->linear.kind->backward(&layer->linear, pass, h, 1.0f - run.gate, p->linear, dout, dh, dot[1]));
    for (int s = 0; dgate && s < batch->n_seq; s++)
        dgate[s] = layer->softmax.kind && layer->linear.kind ? dot[0][s] - dot[1][s] : 0.0;
    if (m->config.block == HA_BLOCK_POST)
        add(n, dh, dx);
    else
        HA_TRY(ha_norm_backward(m, layer->mixer_norm, pass, p->x, dh, dx));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_layer_backward(const ha_model *m, int l, ha_layer_run run, const ha_pass *pass, float *saved, float *dx,
                            double *dgate)
{
    const ha_layer *layer = &m->layer[l];
    const size_t mark = ha_arena_mark(pass->arena);
    const saved_parts p = parts(m, layer, run, pass->batch, saved);
    float *beside = NULL;
    if (m->config.block == HA_BLOCK_PARALLEL)
        HA_PUSH(beside, pass->arena, ha_wide(pass->batch, m->config.hidden_size));
    HA_TRY(mlp_backward(m, layer, pass, &p, dx, beside));
    HA_TRY(mixers_backward(m, l, run, pass, &p, dx, dgate));
    if (beside)
        HA_TRY(ha_norm_backward(m, layer->mlp_norm, pass, p.x, beside, dx));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
