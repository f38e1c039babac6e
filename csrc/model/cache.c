/* Decode state: one per layer, running mixer and sequence. States that hold every token grow by
 * half when full. */
#include <stdlib.h>
#include <string.h>

#include "mixers/trail.h"
#include "model/model.h"

struct ha_cache {
    const ha_model *model;
    ha_dtype type;
    int n_seq;
    int *length;     /* [n_seq] */
    int trail;       /* tokens whose states are kept */
    int *behind;     /* [n_seq] tokens that can be taken back now */
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
    c->behind = calloc((size_t)c->n_seq, sizeof *c->behind);
    c->gates = malloc((size_t)layers * sizeof *c->gates);
    c->state = calloc((size_t)states_of(c), sizeof *c->state);
    if (!c->length || !c->behind || !c->gates || !c->state)
        return ha_fail(HA_NO_MEMORY, "out of memory for a cache of %d sequences", c->n_seq);
    HA_TRY(ha_gates_of(c->model, gates, c->gates));
    for (int i = 0; i < states_of(c); i++) {
        const ha_mixer *mixer = mixer_at(c, i);
        ha_state *state = &c->state[i];
        if (!mixer)
            continue;
        state->shape = mixer->kind->state(mixer);
        state->type = c->type;
        if (state->shape.tokens)
            HA_TRY(ha_state_resize(state, 0, state->shape.tokens));
        if (state->shape.floats && !(state->data = calloc(state->shape.floats, sizeof *state->data)))
            return ha_fail(HA_NO_MEMORY, "out of memory for the state of a linear layer");
    }
    return HA_OK;
}

static ha_status make(const ha_model *model, int n_seq, ha_dtype type, const float *gates, ha_cache **out)
{
    ha_cache *c = calloc(1, sizeof *c);
    if (!c)
        return ha_fail(HA_NO_MEMORY, "out of memory for a cache");
    c->model = model;
    c->type = type;
    c->n_seq = n_seq;
    ha_status status = fill(c, gates);
    if (status != HA_OK) {
        ha_cache_free(c);
        return status;
    }
    *out = c;
    return HA_OK;
}

ha_status ha_cache_new(const ha_model *model, int n_seq, ha_dtype type, ha_cache **out)
{
    if (model->config.bidirectional)
        return ha_fail(HA_BAD_VALUE, "a bidirectional model has no cache: each token changes all that came before it");
    return make(model, n_seq, type, model->gates, out);
}

/* An empty state becomes a copy of what counts in `from`. */
static ha_status copy_state(const ha_state *from, ha_state *state)
{
    const int used = ha_state_used(from);
    if (used > state->capacity)
        HA_TRY(ha_state_resize(state, 0, (used + 127) / 128 * 128));
    for (int p = 0; used && p < from->shape.planes; p++)
        memcpy(ha_state_row(state, p, 0), ha_state_row(from, p, 0),
               (size_t)(used * from->shape.row) * ha_dtype_size(from->type));
    if (from->data)
        memcpy(state->data, from->data, from->shape.floats * sizeof *from->data);
    state->length = from->length;
    return HA_OK;
}

ha_status ha_cache_copy(const ha_cache *from, int n_seq, ha_cache **out)
{
    ha_cache *c = NULL;
    HA_TRY(make(from->model, n_seq, from->type, from->gates, &c));
    ha_status status = HA_OK;
    for (int i = 0; i < states_of(c) && status == HA_OK; i++)
        if (mixer_at(c, i))
            status = copy_state(&from->state[i / n_seq * from->n_seq + i % n_seq % from->n_seq], &c->state[i]);
    if (status != HA_OK) {
        ha_cache_free(c);
        return status;
    }
    for (int s = 0; s < n_seq; s++)
        c->length[s] = from->length[s % from->n_seq];
    *out = c;
    return HA_OK;
}

void ha_cache_free(ha_cache *c)
{
    if (!c)
        return;
    for (int i = 0; c->state && i < states_of(c); i++)
        ha_trail_free(&c->state[i]);
    free(c->state);
    free(c->gates);
    free(c->length);
    free(c->behind);
    free(c);
}

void ha_cache_reset(ha_cache *c)
{
    for (int s = 0; s < c->n_seq; s++)
        ha_cache_set_length(c, s, 0);
    for (int i = 0; i < states_of(c); i++)
        if (c->state[i].data)
            memset(c->state[i].data, 0, c->state[i].shape.floats * sizeof(float));
}

const ha_model *ha_cache_model(const ha_cache *c)
{
    return c->model;
}

ha_dtype ha_cache_dtype(const ha_cache *c)
{
    return c->type;
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
    c->behind[seq] = 0;
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
        ha_state *state = &c->state[i];
        int want = c->length[i % c->n_seq] + extra[i % c->n_seq];
        if (!ha_state_grows(&state->shape) || want <= state->capacity)
            continue;
        int capacity = want + state->capacity / 2;
        HA_TRY(ha_state_resize(state, state->length, (capacity + 127) / 128 * 128));
    }
    return HA_OK;
}

void ha_cache_advance(ha_cache *c, const ha_batch *batch)
{
    const int trails = ha_cache_trails(c, batch);
    for (int s = 0; s < c->n_seq; s++) {
        const int n = batch->offset[s + 1] - batch->offset[s], behind = trails ? c->behind[s] + n : 0;
        ha_cache_set_length(c, s, c->length[s] + n);
        c->behind[s] = behind < c->trail ? behind : c->trail;
    }
}

ha_status ha_cache_trail(ha_cache *c, int tokens)
{
    ha_status status = HA_OK;
    int i = 0;
    for (; i < states_of(c) && status == HA_OK; i++)
        status = ha_trail_resize(&c->state[i], tokens ? tokens + 1 : 0);
    if (status != HA_OK)
        tokens = 0;
    while (status != HA_OK && i-- > 0)
        if (ha_trail_resize(&c->state[i], 0) != HA_OK) /* it stays, unused */
            continue;
    c->trail = tokens;
    memset(c->behind, 0, (size_t)c->n_seq * sizeof *c->behind);
    return status;
}

int ha_cache_trails(const ha_cache *c, const ha_batch *batch)
{
    int most = 0;
    for (int s = 0; s < batch->n_seq; s++)
        if (batch->offset[s + 1] - batch->offset[s] > most)
            most = batch->offset[s + 1] - batch->offset[s];
    return c->trail && most <= c->trail;
}

ha_status ha_cache_rewind(ha_cache *c, const int *tokens)
{
    for (int s = 0; s < c->n_seq; s++)
        if (tokens[s] > c->behind[s])
            return ha_fail(HA_BAD_VALUE, "tokens[%d] is %d, allowed are 0 to %d", s, tokens[s], c->behind[s]);
    for (int i = 0; i < states_of(c); i++)
        ha_trail_back(&c->state[i], tokens[i % c->n_seq]);
    for (int s = 0; s < c->n_seq; s++) {
        const int behind = c->behind[s] - tokens[s];
        ha_cache_set_length(c, s, c->length[s] - tokens[s]);
        c->behind[s] = behind;
    }
    return HA_OK;
}

size_t ha_cache_layer_bytes(const ha_cache *c, int l, int linear)
{
    size_t bytes = 0;
    for (int s = 0; s < c->n_seq; s++) {
        const ha_state *state = &c->state[(l * 2 + linear) * c->n_seq + s];
        const size_t own = ha_state_rows_bytes(&state->shape, state->type, state->capacity) +
                           state->shape.floats * sizeof *state->data;
        bytes += state->slots ? (size_t)state->slots * own : own;
    }
    return bytes;
}

size_t ha_cache_bytes(const ha_cache *c)
{
    size_t bytes = 0;
    for (int l = 0; l < c->model->config.num_layers; l++)
        bytes += ha_cache_layer_bytes(c, l, 0) + ha_cache_layer_bytes(c, l, 1);
    return bytes;
}

size_t ha_cache_bytes_per_token(const ha_cache *c)
{
    size_t bytes = 0;
    for (int i = 0; i < states_of(c); i += c->n_seq)
        if (ha_state_grows(&c->state[i].shape))
            bytes += ha_state_rows_bytes(&c->state[i].shape, c->type, 1);
    return bytes;
}
