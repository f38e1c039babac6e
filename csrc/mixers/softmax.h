/* What the softmax mixer shows of its heads. */
#ifndef HA_MIXERS_SOFTMAX_H
#define HA_MIXERS_SOFTMAX_H

#include "mixers/mixer.h"
#include "ops/ops.h"

/* The attention of a mixer of kind `softmax` or `window`. */
ha_attention ha_softmax_shape(const ha_mixer *mixer);

/* softmax_reach.c: sums [heads][3] += as ha_attention_reach has them, of x [rows, hidden], what the
 * mixer reads */
ha_status ha_softmax_reach(const ha_mixer *mixer, const ha_pass *pass, const float *x, double *sums);

#endif
