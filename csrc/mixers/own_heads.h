/* Linear mixers whose heads have a shape of their own: how many, how wide, and how many of them q
 * and k have. */
#ifndef HA_MIXERS_OWN_HEADS_H
#define HA_MIXERS_OWN_HEADS_H

#include "mixers/recurrent_layout.h"

/* mixer->own from the options, where a kind has them; refuses what does not fit together. */
ha_status ha_own_heads(ha_mixer *mixer, int layer);
/* In the place of ha_transfer_projections. Channel i of v and of the output's columns is the
 * softmax mixer's channel i of all heads side by side, as grouped heads repeat it; a key head takes
 * q and k where its first head stands. What there is no such channel for starts at random. */
void ha_own_heads_transfer(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
/* A row of q or k: [key_heads, dim] at its beginning becomes [heads, dim]. */
void ha_own_heads_repeat(const ha_recurrent_layout *l, float *row);
/* And back: y is that of each group's first head, the gradient the sum over the group. */
void ha_own_heads_fold(const ha_recurrent_layout *l, float *y, float *dy);

#endif
