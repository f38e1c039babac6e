/* Decode state: where a token's keys and values are stored, and how they are read again. */
#ifndef HA_MIXERS_STATE_H
#define HA_MIXERS_STATE_H

#include "mixers/mixer.h"
#include "ops/ops.h"

static inline int ha_state_grows(const ha_state_shape *shape)
{
    return shape->planes > 0 && shape->tokens == 0;
}

/* How many of its stored tokens count. */
static inline int ha_state_used(const ha_state *state)
{
    return ha_state_grows(&state->shape) ? state->length : state->shape.tokens;
}

/* Address of the vector of `plane` at `slot`. */
void *ha_state_row(const ha_state *state, int plane, int slot);
/* Stores n tokens at slot .. slot + n - 1; from [n, planes, row], its tokens `ld` floats apart. */
void ha_state_store(const ha_state *state, int slot, int n, const float *from, ptrdiff_t ld);
/* to [row] = the vector of `plane` at `slot` */
void ha_state_fetch(const ha_state *state, int plane, int slot, float *to);
/* to [row] = what a vector comes back as when it has been stored: results must not depend on
 * whether it was */
void ha_state_round(const ha_state *state, const float *from, float *to);
/* The first `length` tokens as the keys and values of attention whose queries come after `past`
 * keys. */
ha_keys ha_state_keys(const ha_state *state, int length, int past);

/* Bytes of its rows when they hold `capacity` tokens, and of one token's. */
size_t ha_state_rows_bytes(const ha_state_shape *shape, ha_dtype type, int capacity);
/* Moves to `capacity` tokens, from the `used` that count; nothing changes on failure. */
ha_status ha_state_resize(ha_state *state, int used, int capacity);

#endif
