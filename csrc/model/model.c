#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

static ha_status add(ha_model *m, const char *prefix, const char *name, int layer, int join, int rows, int cols,
                     size_t *at)
{
    const ha_param facts = {
        .layer = layer, .joined = join, .matrix = cols > 0, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    return ha_params_add(&m->params, prefix, name, &facts, at);
}

/* Weight [hidden], and the bias of a LayerNorm. */
static ha_status add_norm(ha_model *m, const char *name, int layer, ha_norm *norm)
{
    char full[HA_MAX_NAME];
    snprintf(full, sizeof full, "%s.weight", name);
    HA_TRY(add(m, "", full, layer, 0, m->config.hidden_size, 0, &norm->weight));
    norm->bias = HA_NONE;
    if (m->config.norm != HA_NORM_LAYER)
        return HA_OK;
    snprintf(full, sizeof full, "%s.bias", name);
    return add(m, "", full, layer, 0, m->config.hidden_size, 0, &norm->bias);
}

/* One mixer of layer l, `option` or its defaults. */
static ha_status declare_mixer(ha_model *m, ha_mixer *mixer, const ha_mixer_kind *kind, const int *option, int l)
{
    char prefix[HA_MAX_NAME];
    if (m->config.bidirectional && kind->masks == HA_CAUSAL_ONLY)
        return ha_fail(HA_BAD_VALUE, "layers[%d]: mixer %s is causal only; a bidirectional model needs one that is not",
                       l, kind->name);
    if (!m->config.bidirectional && kind->masks == HA_BIDIRECTIONAL_ONLY)
        return ha_fail(HA_BAD_VALUE, "layers[%d]: mixer %s is for bidirectional models only; this one is causal", l,
                       kind->name);
    mixer->kind = kind;
    mixer->config = m->config.local && m->config.local[l] ? &m->local : &m->config;
    if (option)
        memcpy(mixer->option, option, sizeof mixer->option);
    snprintf(prefix, sizeof prefix, "layers.%d.%s.", l, kind->name);
    return kind->declare(mixer, prefix, l, &m->params);
}

/* Up and down projections of layer l, with biases where the config has them. */
static ha_status declare_mlp(ha_model *m, int l)
{
    const ha_config *c = &m->config;
    const int d = c->hidden_size, f = c->intermediate_size, plain = c->mlp_plain;
    ha_layer *layer = &m->layer[l];
    char prefix[HA_MAX_NAME];
    size_t behind, *up = plain ? &layer->up : &behind, *up_bias = plain ? &layer->up_bias : &behind;
    snprintf(prefix, sizeof prefix, "layers.%d.mlp.", l);
    layer->up_bias = layer->down_bias = HA_NONE;
    if (!plain)
        HA_TRY(add(m, prefix, "gate_proj.weight", l, 0, f, d, &layer->up));
    HA_TRY(add(m, prefix, "up_proj.weight", l, !plain, f, d, up));
    if (c->mlp_bias) {
        if (!plain)
            HA_TRY(add(m, prefix, "gate_proj.bias", l, 0, f, 0, &layer->up_bias));
        HA_TRY(add(m, prefix, "up_proj.bias", l, !plain, f, 0, up_bias));
    }
    HA_TRY(add(m, prefix, "down_proj.weight", l, 0, d, f, &layer->down));
    if (c->mlp_bias)
        HA_TRY(add(m, prefix, "down_proj.bias", l, 0, d, 0, &layer->down_bias));
    return HA_OK;
}

/* Norms, mixers and MLP of layer l. */
static ha_status declare_layer(ha_model *m, int l, const ha_layer_spec *spec)
{
    ha_layer *layer = &m->layer[l];
    char name[HA_MAX_NAME];
    snprintf(name, sizeof name, "layers.%d.mixer_norm", l);
    HA_TRY(add_norm(m, name, l, &layer->mixer_norm));
    if (spec->has_softmax)
        HA_TRY(declare_mixer(m, &layer->softmax, ha_mixer_at(0), NULL, l));
    if (spec->linear)
        HA_TRY(declare_mixer(m, &layer->linear, spec->linear, spec->option, l));
    snprintf(name, sizeof name, "layers.%d.mlp_norm", l);
    HA_TRY(add_norm(m, name, l, &layer->mlp_norm));
    if (m->config.block == HA_BLOCK_SANDWICH) {
        snprintf(name, sizeof name, "layers.%d.mixer_post_norm", l);
        HA_TRY(add_norm(m, name, l, &layer->mixer_post_norm));
        snprintf(name, sizeof name, "layers.%d.mlp_post_norm", l);
        HA_TRY(add_norm(m, name, l, &layer->mlp_post_norm));
    }
    return declare_mlp(m, l);
}

/* Tokens, positions, segments and their norm. */
static ha_status declare_embeddings(ha_model *m)
{
    const ha_config *c = &m->config;
    const int d = c->hidden_size;
    HA_TRY(add(m, "", "embed.weight", -1, 0, c->vocab_size, d, &m->embed));
    if (c->positions)
        HA_TRY(ha_params_add(&m->params, "", "positions.weight",
                             &(ha_param){.layer = -1, .ndim = 2, .shape = {c->positions + c->position_offset, d}},
                             &m->positions));
    if (c->segments)
        HA_TRY(ha_params_add(&m->params, "", "segments.weight",
                             &(ha_param){.layer = -1, .ndim = 2, .shape = {c->segments, d}}, &m->segments));
    return c->embed_norm ? add_norm(m, "embed_norm", -1, &m->embed_norm) : HA_OK;
}

/* Final norm, transform and LM head or task head. */
static ha_status declare_head(ha_model *m)
{
    const ha_config *c = &m->config;
    const int d = c->hidden_size;
    if (c->final_norm)
        HA_TRY(add_norm(m, "final_norm", -1, &m->final_norm));
    if (c->head_transform) {
        HA_TRY(add(m, "", "transform.weight", -1, 0, d, d, &m->transform));
        HA_TRY(add(m, "", "transform.bias", -1, 0, d, 0, &m->transform_bias));
        HA_TRY(add_norm(m, "transform_norm", -1, &m->transform_norm));
    }
    if (c->lm_head && c->tie_embeddings)
        m->head = m->embed;
    else if (c->lm_head)
        HA_TRY(add(m, "", "lm_head.weight", -1, 0, c->vocab_size, d, &m->head));
    if (c->lm_head && c->head_bias)
        HA_TRY(add(m, "", "lm_head.bias", -1, 0, c->vocab_size, 0, &m->head_bias));
    return c->task.kind == HA_TASK_NONE ? HA_OK : ha_task_declare(m);
}

/* The config of local layers: its window, and frequencies behind the others. */
static void add_local(ha_model *m, size_t half)
{
    float *own = m->rope_inv_freq + half;
    if (half)
        memcpy(own, m->config.local_inv_freq, half * sizeof *own);
    m->local = m->config;
    m->local.rope_inv_freq = own;
    m->local.rope_factor = 1.0f;
    m->local.sliding_window = m->config.local_window;
    m->local.rope_table = 1;
    m->local.local = NULL;
}

/* Everything behind the allocation of the model itself. */
static ha_status build(ha_model *m, const ha_config *config, const ha_layer_spec *specs)
{
    const size_t half = (size_t)config->rope_dim / 2, layers = (size_t)config->num_layers;
    m->config = *config;
    if (config->task.kind != HA_TASK_NONE)
        m->config.lm_head = m->config.head_bias = m->config.head_transform = 0;
    m->rope_inv_freq = malloc((2 * half + 1) * sizeof *m->rope_inv_freq);
    m->layer = calloc(layers, sizeof *m->layer);
    m->gates = malloc(layers * sizeof *m->gates);
    if (!m->rope_inv_freq || !m->layer || !m->gates)
        return ha_fail(HA_NO_MEMORY, "out of memory for a model of %zu layers", layers);
    if (half)
        memcpy(m->rope_inv_freq, config->rope_inv_freq, half * sizeof *m->rope_inv_freq);
    m->config.rope_inv_freq = m->rope_inv_freq;
    if (config->local)
        add_local(m, half);
    m->positions = m->segments = m->transform = m->transform_bias = m->head = m->head_bias = HA_NONE;
    m->pooler = m->pooler_bias = m->classifier = m->classifier_bias = HA_NONE;
    HA_TRY(declare_embeddings(m));
    for (int l = 0; l < config->num_layers; l++) {
        HA_TRY(declare_layer(m, l, &specs[l]));
        m->gates[l] = specs[l].has_softmax ? 1.0f : 0.0f;
    }
    m->config.local = NULL; /* the caller's */
    HA_TRY(declare_head(m));
    m->weights = ha_block_alloc(m->params.total * sizeof *m->weights);
    return m->weights ? HA_OK : HA_NO_MEMORY;
}

ha_status ha_model_new(const ha_config *config, const ha_layer_spec *specs, ha_model **out)
{
    ha_model *m = calloc(1, sizeof *m);
    if (!m)
        return ha_fail(HA_NO_MEMORY, "out of memory for a model");
    ha_status status = build(m, config, specs);
    if (status != HA_OK) {
        ha_model_free(m);
        return status;
    }
    *out = m;
    return HA_OK;
}

void ha_model_free(ha_model *m)
{
    if (!m)
        return;
    ha_block_free(m->weights, m->params.total * sizeof *m->weights);
    ha_block_free(m->grads, m->params.total * sizeof *m->grads);
    ha_params_free(&m->params);
    free(m->rope_inv_freq);
    free(m->layer);
    free(m->gates);
    free(m);
}

ha_status ha_model_need_grads(ha_model *m)
{
    if (!m->grads)
        m->grads = ha_block_alloc(m->params.total * sizeof *m->grads);
    return m->grads ? HA_OK : HA_NO_MEMORY;
}

/* The place that a stored parameter has in the arena: filled with its numbers, or given back to the
 * system. */
static void decode(ha_model *m, int i)
{
    const ha_param *p = &m->params.list[i];
    ha_kernels_get()->decode[m->params.stored[i].dtype](p->count, m->params.stored[i].data, m->weights + p->offset);
}

static void drop(ha_model *m, int i)
{
    const ha_param *p = &m->params.list[i];
    ha_block_drop(m->weights + p->offset, p->count * sizeof *m->weights);
}

static void in_arena(ha_model *m, int l, void (*act)(ha_model *, int))
{
    for (int i = 0; m->params.stored && i < m->params.count; i++)
        if (m->params.list[i].layer == l && m->params.list[i].group == HA_GROUP_MIXER &&
            m->params.stored[i].dtype != HA_F32)
            act(m, i);
}

ha_status ha_model_store(ha_model *m, int param, ha_dtype type, const void *data)
{
    HA_TRY(ha_params_store(&m->params, param, type, data, m->weights));
    drop(m, param);
    return HA_OK;
}

/* A linear mixer is started anew in the arena, where a stored matrix is not. */
static ha_status need_linear_in_arena(const ha_model *m, int l)
{
    char prefix[HA_MAX_NAME];
    snprintf(prefix, sizeof prefix, "layers.%d.%s.", l, m->layer[l].linear.kind->name);
    for (int i = 0; i < m->params.count; i++) {
        const ha_dtype type = ha_params_dtype(&m->params, i);
        if (type != HA_F32 && strncmp(m->params.list[i].name, prefix, strlen(prefix)) == 0)
            return ha_fail(HA_BAD_VALUE,
                           "%s is stored as %s and cannot be started anew: allowed is float32, see astype",
                           m->params.list[i].name, ha_dtype_name(type));
    }
    return HA_OK;
}

ha_status ha_model_init_mixers(ha_model *m, uint64_t seed)
{
    for (int l = 0; l < m->config.num_layers; l++)
        if (m->layer[l].softmax.kind && m->layer[l].linear.kind)
            HA_TRY(need_linear_in_arena(m, l));
    for (int l = 0; l < m->config.num_layers; l++) {
        ha_layer *layer = &m->layer[l];
        ha_rng rng = ha_rng_seed(seed * 1000003u + (uint64_t)l); /* a layer's start does not depend on other layers */
        if (!layer->softmax.kind || !layer->linear.kind)
            continue;
        in_arena(m, l, decode);
        layer->linear.kind->init_from_softmax(&layer->linear, &layer->softmax, m->weights, &rng);
        in_arena(m, l, drop);
    }
    return HA_OK;
}

int ha_model_is_probe(const ha_model *m)
{
    int any = 0, other = 0;
    for (int l = 0; l < m->config.num_layers; l++) {
        const ha_layer *layer = &m->layer[l];
        any |= layer->softmax.kind && layer->linear.kind;
        other |= layer->softmax.kind && !layer->linear.kind;
    }
    return any && !other;
}

float ha_gate_of(const ha_model *m, const float *gates, int l)
{
    const ha_layer *layer = &m->layer[l];
    if (!layer->linear.kind)
        return 1.0f;
    if (!layer->softmax.kind)
        return 0.0f;
    return (gates ? gates : m->gates)[l];
}

ha_status ha_gates_of(const ha_model *m, const float *gates, float *own)
{
    for (int l = 0; l < m->config.num_layers; l++) {
        float gate = (gates ? gates : m->gates)[l];
        if (!(gate >= 0.0f && gate <= 1.0f))
            return ha_fail(HA_BAD_VALUE, "gates[%d] is %g, allowed are 0 (linear) to 1 (softmax)", l, (double)gate);
        own[l] = gate;
        own[l] = ha_gate_of(m, own, l);
    }
    return HA_OK;
}
