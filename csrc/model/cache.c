/* Decode state: one block per layer, running mixer and sequence. Softmax blocks grow by half when full; linear blocks
 * have the size they start with. */
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

struct ha_cache {
    const ha_model *model;
    int n_seq;
    int *length;     /* [n_seq] */
    float *gates;    /* [num_layers] as they were at creation */
    ha_state *state; /* [num_layers][2][n_seq] */
};

static int states_of(const ha_cache *c)
{
    return c->model->config.num_layers * 2 * c->n_seq;
}

static const ha_mixer *mixer_at(const ha_cache *c, int index)
{
    int l = index / (2 * c->n_seq), linear = index / c->n_seq % 2;
    const ha_layer *layer = &c->model->layer[l];
    ha_layer_run run = {ha_gate_of(c->model, c->gates, l), 0};
    if (linear)
        return ha_runs_linear(layer, run) ? &layer->linear : NULL;
    return ha_runs_softmax(layer, run) ? &layer->softmax : NULL;
}

static ha_status fill(ha_cache *c, const float *gates)
{
    int layers = c->model->config.num_layers;
    c->length = calloc((size_t)c->n_seq, sizeof *c->length);
    c->gates = malloc((size_t)layers * sizeof *c->gates);
    c->state = calloc((size_t)states_of(c), sizeof *c->state);
    if (!c->length || !c->gates || !c->state)
        return ha_fail(HA_NO_MEMORY, "out of memory for a cache of %d sequences", c->n_seq);
    HA_TRY(ha_gates_of(c->model, gates, c->gates));
    for (int i = 0; i < states_of(c); i++) {
        const ha_mixer *mixer = mixer_at(c, i);
        if (!mixer || mixer->kind->grows)
            continue;
        c->state[i].floats = mixer->kind->state(mixer, 0);
        c->state[i].data = calloc(c->state[i].floats, sizeof(float));
        if (!c->state[i].data)
            return ha_fail(HA_NO_MEMORY, "out of memory for the state of a linear layer");
    }
    return HA_OK;
}

static ha_status make(const ha_model *model, int n_seq, const float *gates, ha_cache **out)
{
    ha_cache *c = calloc(1, sizeof *c);
    if (!c)
        return ha_fail(HA_NO_MEMORY, "out of memory for a cache");
    c->model = model;
    c->n_seq = n_seq;
    ha_status status = fill(c, gates);
    if (status != HA_OK) {
        ha_cache_free(c);
        return status;
    }
    *out = c;
    return HA_OK;
}

ha_status ha_cache_new(const ha_model *model, int n_seq, ha_cache **out)
{
    return make(model, n_seq, model->gates, out);
}

ha_status ha_cache_copy(const ha_cache *from, ha_cache **out)
{
    ha_cache *c = NULL;
    HA_TRY(make(from->model, from->n_seq, from->gates, &c));
    ha_status status = ha_cache_reserve(c, from->length);
    if (status != HA_OK) {
        ha_cache_free(c);
        return status;
    }
    for (int i = 0; i < states_of(c); i++) {
        const ha_mixer *mixer = mixer_at(c, i);
        if (!mixer)
            continue;
        size_t used = mixer->kind->state(mixer, from->state[i].length);
        if (used)
            memcpy(c->state[i].data, from->state[i].data, used * sizeof(float));
        c->state[i].length = from->state[i].length;
    }
    memcpy(c->length, from->length, (size_t)c->n_seq * sizeof *c->length);
    *out = c;
    return HA_OK;
}

void ha_cache_free(ha_cache *c)
{
    if (!c)
        return;
    for (int i = 0; c->state && i < states_of(c); i++)
        free(c->state[i].data);
    free(c->state);
    free(c->gates);
    free(c->length);
    free(c);
}

void ha_cache_reset(ha_cache *c)
{
    for (int s = 0; s < c->n_seq; s++)
        ha_cache_set_length(c, s, 0);
    for (int i = 0; i < states_of(c); i++) {
        const ha_mixer *mixer = mixer_at(c, i);
        if (mixer && !mixer->kind->grows)
            memset(c->state[i].data, 0, c->state[i].floats * sizeof(float));
    }
}

const ha_model *ha_cache_model(const ha_cache *c)
{
    return c->model;
}

int ha_cache_sequences(const ha_cache *c)
{
    return c->n_seq;
}

int ha_cache_length(const ha_cache *c, int seq)
{
    return c->length[seq];
}

void ha_cache_set_length(ha_cache *c, int seq, int length)
{
    c->length[seq] = length;
    for (int i = seq; i < states_of(c); i += c->n_seq)
        c->state[i].length = length;
}

const float *ha_cache_gates(const ha_cache *c)
{
    return c->gates;
}

ha_state *ha_cache_state(const ha_cache *c, int l, int linear)
{
    int at = (l * 2 + linear) * c->n_seq;
    return mixer_at(c, at) ? &c->state[at] : NULL;
}

ha_status ha_cache_reserve(ha_cache *c, const int *extra)
{
    for (int i = 0; i < states_of(c); i++) {
        const ha_mixer *mixer = mixer_at(c, i);
        ha_state *state = &c->state[i];
        int want = c->length[i % c->n_seq] + extra[i % c->n_seq];
        if (!mixer || !mixer->kind->grows || want <= state->capacity)
            continue;
        int capacity = want + state->capacity / 2;
        capacity = (capacity + 127) / 128 * 128;
        size_t floats = mixer->kind->state(mixer, capacity);
        float *data = realloc(state->data, floats * sizeof *data);
        if (!data)
            return ha_fail(HA_NO_MEMORY, "out of memory for a cache of %d tokens", capacity);
        *state = (ha_state){data, floats, capacity, state->length};
    }
    return HA_OK;
}

void ha_cache_advance(ha_cache *c, const ha_batch *batch)
{
    for (int s = 0; s < c->n_seq; s++)
        ha_cache_set_length(c, s, c->length[s] + batch->offset[s + 1] - batch->offset[s]);
}

size_t ha_cache_bytes(const ha_cache *c)
{
    size_t floats = 0;
    for (int i = 0; i < states_of(c); i++)
        floats += c->state[i].floats;
    return floats * sizeof(float);
}

size_t ha_cache_bytes_per_token(const ha_cache *c)
{
    size_t floats = 0;
    for (int i = 0; i < states_of(c); i += c->n_seq) {
        const ha_mixer *mixer = mixer_at(c, i);
        if (mixer && mixer->kind->grows)
            floats += mixer->kind->state(mixer, 1);
    }
    return floats * sizeof(float);
}
