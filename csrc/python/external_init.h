/* The start of a Python mixer. */
#ifndef HA_PYTHON_EXTERNAL_INIT_H
#define HA_PYTHON_EXTERNAL_INIT_H

#include "mixers/mixer.h"

/* ha_mixer_kind.init_from_softmax: fills the mixer's parameters in `weights` with what init(rng,
 * config, softmax_weights) gives. A failure leaves an exception, which Model.init_mixers finds. */
void ha_external_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);

#endif
