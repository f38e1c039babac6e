/* The passes of a Python mixer, as its ha_mixer_kind names them. */
#ifndef HA_PYTHON_EXTERNAL_MIXER_H
#define HA_PYTHON_EXTERNAL_MIXER_H

#include "mixers/mixer.h"

/* out [rows,hidden] += scale * the mixer on x [rows,hidden]; state [n_seq]: NULL, or where the
 * sequences continue. Nothing is saved: the backward pass makes the forward pass again. */
ha_status ha_external_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                              float *saved, ha_state *state);
/* From dout [rows,hidden]: dx [rows,hidden] += its gradient, unless NULL, pass->grads += those of
 * the parameters, unless NULL, and gate [n_seq] = <dout, y> of each sequence, unless NULL. */
ha_status ha_external_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                               const float *dout, float *dx, double *gate);

#endif
