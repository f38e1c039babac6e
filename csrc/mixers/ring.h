/* Decode state of attention with a window and sinks, of fixed size: keys and values of the first
 * `sinks` tokens, then of the last `window` ones as a ring. The token at position p >= sinks lies
 * in slot sinks + (p - sinks) mod window. */
#ifndef HA_MIXERS_RING_H
#define HA_MIXERS_RING_H

#include "mixers/state.h"

/* Its planes and floats for one sequence. */
ha_state_shape ha_ring_shape(const ha_attention *a);
/* The slot of the token at a position. */
int ha_ring_slot(const ha_attention *a, int position);
/* Attention of sequence `seq` of the batch over what the ring holds of its tokens so far and over
 * its new rows, which the ring then takes in. qkv [rows, heads + 2 kv_heads, dim] and out are those
 * of the whole batch. */
ha_status ha_ring_attend(const ha_attention *a, const ha_pass *pass, int seq, const ha_state *state, const float *qkv,
                         const ha_attention_out *out);

#endif
