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
extern PyMethodDef ha_ops_task[];             /* ops_task.c: pool_sequences and the losses of tasks */

/* The sub-module `ops`. */
int ha_add_ops(PyObject *module);

/* What both of the last two take: a ha_pool_kind by name, and targets [S], each within its piece. */
int ha_call_pool(ha_call *call, const char *name);
const int32_t *ha_call_piece_targets(ha_call *call, PyObject *object, const ha_batch *batch);

#endif
