/* Attention over gated slots, as the frame of recurrent.h can have it in the place of its
 * recurrence. Per head, slots K, V [slots, dim] and write = 1 - exp(g) [slots]:
 *     K = diag(exp(g)) K + write k^T,   V likewise of v,   o = silu(V^T softmax(K q))
 * Two passes of the recurrence (Zhang et al. 2024, arXiv 2409.07146, section 3.2). State: K^T
 * [heads, dim, slots], then V. */
#ifndef HA_MIXERS_SLOTS_H
#define HA_MIXERS_SLOTS_H

#include "mixers/recurrent_parts.h"

/* Floats that forward saves for backward. */
size_t ha_slots_saved(const ha_recurrent_layout *l, const ha_batch *batch);
/* in->written is `write`; state [n_seq], each updated or NULL; o [rows, inner]; saved as sized
 * above, or NULL */
ha_status ha_slots_forward(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                           float *const *state, float *o, float *saved, ha_arena *arena);
/* Fills queries, keys, values, written and log_decay of d. */
ha_status ha_slots_backward(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                            float *saved, const float *d_o, const ha_recurrent_operands *d, ha_arena *arena);

#endif
