/* The sizes of a mixer on the recurrence, from its kind, its options and the model's config. */
#ifndef HA_MIXERS_RECURRENT_LAYOUT_H
#define HA_MIXERS_RECURRENT_LAYOUT_H

#include "mixers/recurrent_kind.h"

/* Columns of the joined projection: q, k [query each] and v [inner], then the parts, or their
 * low-rank halves. */
typedef struct {
    const ha_recurrent *frame;
    int heads, dim, inner, width, n_parts, conv;
    int key_heads, query; /* as in the projection: operands have q and k for every head */
    int from[3], mixed;   /* columns of q, k and v, and of all three together */
    int directions;       /* 2: operands hold their rows a second time, back to front */
    int slots, gated,
        normed;   /* slots of a head or 0; columns of `written` and of log_decay by channel; channels of a norm */
    size_t state; /* floats, before those of the convolution */
    int column[HA_MAX_PARTS], size[HA_MAX_PARTS]; /* of a part in the projection; its outputs */
} ha_recurrent_layout;

/* The layout of a mixer of this frame. */
ha_recurrent_layout ha_recurrent_layout_of(const ha_mixer *mixer);

#endif
