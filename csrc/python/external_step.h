/* Decoding with a Python mixer. */
#ifndef HA_PYTHON_EXTERNAL_STEP_H
#define HA_PYTHON_EXTERNAL_STEP_H

#include "mixers/mixer.h"

/* out [rows,hidden] += scale * the mixer on x [rows,hidden], each sequence of pass->batch after
 * state [n_seq], which moves on. */
ha_status ha_external_continue(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                               ha_state *state);

#endif
