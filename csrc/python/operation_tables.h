/* The operations by theme; tables end with an empty entry. */
#ifndef HA_PYTHON_OPERATION_TABLES_H
#define HA_PYTHON_OPERATION_TABLES_H

#include "python/operation.h"

extern const ha_entry ha_ops_linear[];           /* linear, stored_linear */
extern const ha_entry ha_ops_rows[];             /* rope, swiglu, embed, feature_map */
extern const ha_entry ha_ops_norm[];             /* rms_norm, head_norm, layer_norm, activation */
extern const ha_entry ha_ops_attention[];        /* softmax_attention */
extern const ha_entry ha_ops_linear_attention[]; /* linear_attention */
extern const ha_entry ha_ops_recurrence[];       /* recurrence, gated_delta */
extern const ha_entry ha_ops_sequence[];         /* short_conv, pool */
extern const ha_entry ha_ops_head_loss[];        /* cross_entropy, kl_divergence */
extern const ha_entry ha_ops_row_loss[];         /* align_loss, squared_error, relative_error */
extern const ha_entry ha_ops_optimizer[];        /* adamw */
extern const ha_entry ha_ops_task[];             /* pool_sequences and the losses of tasks */
extern const ha_entry ha_ops_mixers[];           /* whole mixers, in reference only */

#endif
