/* The passes of a Python mixer, as its ha_mixer_kind names them. */
#ifndef HA_PYTHON_EXTERNAL_MIXER_H
#define HA_PYTHON_EXTERNAL_MIXER_H

#include "mixers/mixer.h"

void ha_external_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
ha_status ha_external_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                              float *saved, ha_state *state);
ha_status ha_external_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                               const float *dout, float *dx, double *gate);

#endif
