/* The functions of hybridattn._core.ops, by theme; tables end with an empty entry. */
#ifndef HA_PYTHON_OPS_H
#define HA_PYTHON_OPS_H

#include "python/call.h"

extern PyMethodDef ha_ops_rows[];             /* ops_rows.c: linear, rope, swiglu, embed, feature_map */
extern PyMethodDef ha_ops_norm[];             /* ops_norm.c: rms_norm, head_norm, layer_norm, activation */
extern PyMethodDef ha_ops_attention[];        /* ops_attention.c: softmax_attention */
extern PyMethodDef ha_ops_linear_attention[]; /* ops_linear_attention.c: linear_attention */
extern PyMethodDef ha_ops_recurrence[];       /* ops_recurrence.c: recurrence, gated_delta */
extern PyMethodDef ha_ops_short_conv[];       /* ops_short_conv.c: short_conv */
extern PyMethodDef ha_ops_pool[];             /* ops_pool.c: pool */
extern PyMethodDef ha_ops_losses[];           /* ops_losses.c: cross_entropy, kl_divergence, align_loss, adamw */

#endif
