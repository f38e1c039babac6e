/* From the joined projection of a mixer on the recurrence to the recurrence's operands, and
 * back. */
#ifndef HA_MIXERS_RECURRENT_PARTS_H
#define HA_MIXERS_RECURRENT_PARTS_H

#include "mixers/recurrent_layout.h"

/* What the recurrence reads: queries [directions rows, inner], the others [.., kept], [.., gated] or
 * [.., kv_heads]; qkv [rows,
 * mixed], what queries, keys and values are made of; the logits of the parts, and those of low rank
 * before they are widened. */
typedef struct {
    float *qkv;
    ptrdiff_t qkv_stride;
    float *queries, *keys, *values, *written, *log_decay, *beta, *erase_write, *erase_read;
    float *logits[HA_MAX_PARTS], *low[HA_MAX_PARTS];
    ptrdiff_t logit_stride[HA_MAX_PARTS];
} ha_recurrent_operands;

/* Arrays for operands or their gradients; the logits of parts of full rank lie in `projected`
 * [rows, width], and so does qkv without a convolution. */
ha_status ha_recurrent_operands_push(const ha_recurrent_layout *l, int rows, float *projected, ha_arena *arena,
                                     ha_recurrent_operands *to);
/* conv [n_seq]: the states of the convolution, or NULL */
ha_status ha_recurrent_operands_make(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                     float *projected, float *const *conv, ha_recurrent_operands *to);
/* From the gradients of the operands and of the output gate's logits to dprojected and the kind's
 * parameters. */
ha_status ha_recurrent_operands_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_layout *l,
                                         const float *projected, ha_recurrent_operands *in, ha_recurrent_operands *d,
                                         float *dprojected);

#endif
