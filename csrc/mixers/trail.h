/* The trail of a decode state: its last few values, one a token, so that tokens can be taken back.
 * A ring of whole states; what holds every token needs none, as a shorter length is enough
 * there. */
#ifndef HA_MIXERS_TRAIL_H
#define HA_MIXERS_TRAIL_H

#include "mixers/state.h"

/* The state gets a trail of `slots` states, or none for 0; its value stays. Nothing changes on
 * failure. */
ha_status ha_trail_resize(ha_state *state, int slots);
/* The next token: a copy of the state in the next slot becomes the state. */
void ha_trail_step(ha_state *state);
/* The state of `tokens` steps ago; its length is the caller's. */
void ha_trail_back(ha_state *state, int tokens);
/* Frees rows and data, with a trail or without. */
void ha_trail_free(ha_state *state);
/* mixer->kind->forward, token by token where the pass leaves a trail and the kind does not do it
 * itself. */
ha_status ha_trail_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                           float *saved, ha_state *state);

#endif
