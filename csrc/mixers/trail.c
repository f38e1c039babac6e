#include "mixers/trail.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the rows of one state that are part of its trail. */
static size_t rows_of(const ha_state *state)
{
    return state->shape.tokens ? ha_state_rows_bytes(&state->shape, state->type, state->capacity) : 0;
}

static int slots_of(const ha_state *state)
{
    return state->slots ? state->slots : 1;
}

/* Where the first slot begins. */
static char *first_rows(const ha_state *state)
{
    return state->rows ? (char *)state->rows - (size_t)state->slot * rows_of(state) : NULL;
}

static float *first_data(const ha_state *state)
{
    return state->data ? state->data - (size_t)state->slot * state->shape.floats : NULL;
}

static void move(ha_state *state, int slot)
{
    char *rows = first_rows(state);
    float *data = first_data(state);
    state->slot = slot;
    if (rows)
        state->rows = rows + (size_t)slot * rows_of(state);
    if (data)
        state->data = data + (size_t)slot * state->shape.floats;
}

void ha_trail_free(ha_state *state)
{
    const size_t bytes = state->shape.tokens ? (size_t)slots_of(state) * rows_of(state)
                                             : ha_state_rows_bytes(&state->shape, state->type, state->capacity);
    ha_block_free(first_rows(state), bytes);
    free(first_data(state));
}

ha_status ha_trail_resize(ha_state *state, int slots)
{
    const size_t bytes = rows_of(state), floats = state->shape.floats, count = slots ? (size_t)slots : 1;
    ha_state next = *state;
    if (!bytes && !floats)
        return HA_OK;
    next.slots = slots;
    next.slot = 0;
    next.data = floats ? malloc(count * floats * sizeof *next.data) : NULL;
    next.rows = bytes ? ha_block_alloc(count * bytes) : NULL;
    if ((floats && !next.data) || (bytes && !next.rows)) {
        free(next.data);
        ha_block_free(next.rows, count * bytes);
        return ha_fail(HA_NO_MEMORY, "out of memory for a trail of %d states", slots);
    }
    if (bytes)
        memcpy(next.rows, state->rows, bytes);
    if (floats)
        memcpy(next.data, state->data, floats * sizeof *next.data);
    ha_trail_free(state);
    *state = next;
    return HA_OK;
}

void ha_trail_step(ha_state *state)
{
    const void *rows = state->rows;
    const float *data = state->data;
    move(state, (state->slot + 1) % state->slots);
    if (rows)
        memcpy(state->rows, rows, rows_of(state));
    if (data)
        memcpy(state->data, data, state->shape.floats * sizeof *data);
}

void ha_trail_back(ha_state *state, int tokens)
{
    if (state->slots)
        move(state, (state->slot + state->slots - tokens) % state->slots);
}

/* One row of the batch as a batch of its own. */
static ha_status one_row(const ha_mixer *mixer, const ha_pass *pass, int row, const float *x, float scale, float *out,
                         ha_state *state)
{
    const ptrdiff_t half = mixer->config->rope_dim / 2, at = (ptrdiff_t)row * mixer->config->hidden_size;
    const int32_t offset[2] = {0, 1};
    const ha_batch *batch = pass->batch;
    const ha_batch own = {.rows = 1,
                          .n_seq = 1,
                          .offset = offset,
                          .token = batch->token + row,
                          .position = batch->position + row,
                          .segment = batch->segment ? batch->segment + row : NULL};
    ha_pass single = *pass;
    single.batch = &own;
    single.cos[mixer->config->rope_table] += row * half;
    single.sin[mixer->config->rope_table] += row * half;
    return mixer->kind->forward(mixer, &single, x + at, scale, out + at, NULL, state);
}

ha_status ha_trail_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                           float *saved, ha_state *state)
{
    if (!pass->trailing || !state || !state->slots || mixer->kind->trails)
        return mixer->kind->forward(mixer, pass, x, scale, out, saved, state);
    for (int s = 0; s < pass->batch->n_seq; s++) {
        const int length = state[s].length, from = pass->batch->offset[s];
        for (int r = from; r < pass->batch->offset[s + 1]; r++) {
            ha_trail_step(&state[s]);
            state[s].length = length + r - from;
            HA_TRY(one_row(mixer, pass, r, x, scale, out, &state[s]));
        }
        state[s].length = length; /* the cache moves it on when all layers are done */
    }
    return HA_OK;
}
