/* From the output of the recurrence to what the output projection reads, and back. */
#ifndef HA_MIXERS_RECURRENT_OUTPUT_H
#define HA_MIXERS_RECURRENT_OUTPUT_H

#include "mixers/recurrent_parts.h"

/* y [rows, inner] from o [rows, inner] and the logits of the output gate */
ha_status ha_recurrent_output(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l, const float *o,
                              const ha_recurrent_operands *in, float *y);
/* From dy to the gradients of o and of the gate's logits. */
ha_status ha_recurrent_output_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                       const float *o, const ha_recurrent_operands *in, const float *dy, float *d_o,
                                       const ha_recurrent_operands *d);

#endif
