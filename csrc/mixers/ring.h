/* Decode state of attention with a window and sinks, of fixed size: keys and values of the first `sinks` tokens, then of the
 * last `window` ones as a ring, [sinks + window][k, v][kv_heads, dim].
 *
 * The token at position p >= sinks lies in ring slot (p - sinks) mod window. */
#ifndef HA_MIXERS_RING_H
#define HA_MIXERS_RING_H

#include "mixers/mixer.h"
#include "ops/ops.h"

size_t ha_ring_floats(const ha_attention *a);
/* Where the key and value of a token that is held lie: [k, v][kv_heads, dim]. */
float *ha_ring_row(const ha_attention *a, float *ring, int position);
/* Attention of sequence `seq` of the batch over what the ring holds of its first `past` tokens and over its new rows, which
 * the ring then takes in. qkv [rows, heads + 2 kv_heads, dim] and out, lse, max (or NULL) are those of the whole batch. */
ha_status ha_ring_attend(const ha_attention *a, const ha_pass *pass, int seq, int past, float *ring, const float *qkv,
                         float *out, float *lse, float *max);

#endif
