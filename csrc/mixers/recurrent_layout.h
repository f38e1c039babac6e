/* The sizes of a mixer on the recurrence, from its kind, its options and the model's config. */
#ifndef HA_MIXERS_RECURRENT_LAYOUT_H
#define HA_MIXERS_RECURRENT_LAYOUT_H

#include "mixers/recurrent_kind.h"

/* Columns of the joined projection: q, k and v, then the parts, or their low-rank halves. */
typedef struct {
    const ha_recurrent *frame;
    int heads, dim, inner, width, n_parts, conv; /* heads of queries and outputs, inner channels */
    int kv_heads, kept;                          /* heads of keys, values, gates and states, and their channels */
    int key_heads;          /* of heads of an own shape in the projection: operands have q and k for every head */
    int from[3], across[3]; /* where q, k and v begin in the projection, and how many columns they have */
    int mixed;              /* columns of all three */
    int directions;         /* 2: operands hold their rows a second time, back to front */
    int slots, gated,
        normed; /* slots of a head or 0; columns of `written` and of log_decay by channel; channels of a norm */
    int has_gate, gate_first; /* as the frame says, unless the output gate is left out */
    size_t state;             /* floats, before those of the convolution */
    int column[HA_MAX_PARTS], size[HA_MAX_PARTS], rank[HA_MAX_PARTS]; /* of a part in the projection; its outputs,
                                                                         0: left out; 0: not of low rank */
} ha_recurrent_layout;

/* Heads of queries for each state. */
static inline int ha_recurrent_group(const ha_recurrent_layout *l)
{
    return l->heads / l->kv_heads;
}

/* The layout of a mixer of this frame. */
ha_recurrent_layout ha_recurrent_layout_of(const ha_mixer *mixer);

#endif
