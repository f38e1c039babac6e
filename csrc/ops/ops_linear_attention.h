/* Linear attention: what its passes read and write. */
#ifndef HA_OPS_OPS_LINEAR_ATTENTION_H
#define HA_OPS_OPS_LINEAR_ATTENTION_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/dtype.h"
#include "core/rows.h"
#include "core/status.h"

/* Linear attention with its normaliser kept apart: per head, over the keys a query may see,
 *     num_i = sum_j (phi(q_i) . phi(k_j)) v_j,   den_i = sum_j phi(q_i) . phi(k_j).
 * Query i sees key j <= i - lag: with lag = window the recent keys are left to a softmax.
 * Bidirectional: also keys j >= i + lag, so without a lag all of its sequence; then there are no
 * states in and out. */
typedef struct {
    int heads, kv_heads, features, dim, lag, bidirectional;
} ha_linear_attention;

/* What it reads: phi(q) [rows, heads, features], and of each sequence [n_seq], from its first key
 * on, phi(k) [., kv_heads, features] and v [., kv_heads, dim]. Key row r first meets query row r +
 * lag; unless bidirectional, the last `lag` rows are not read. */
typedef struct {
    ha_rows queries;
    const ha_rows *keys, *values;
} ha_linear_attention_in;

/* num [rows, heads, dim] and den [rows, heads] */
typedef struct {
    ha_rows_out numerator;
    float *denominator;
} ha_linear_attention_out;

/* Their gradients */
typedef struct {
    ha_rows numerator;
    const float *denominator;
} ha_linear_attention_upstream;

/* Gradients of what was read, where all keys are the batch's rows; rows that no query sees get
 * zero. */
typedef struct {
    ha_rows_out queries, keys, values;
} ha_linear_attention_gradient;

/* Floats of the prefix sums that forward saves for backward. */
size_t ha_linear_attention_states(const ha_linear_attention *a, const ha_batch *batch);
/* linear_attention.c: state [n_seq] pointers to [kv_heads, features, dim + 1], updated, or NULL;
 * saved: as sized above, or NULL */
ha_status ha_linear_attention_forward(const ha_linear_attention *a, const ha_batch *batch,
                                      const ha_linear_attention_in *in, float *const *state,
                                      const ha_linear_attention_out *out, float *saved, ha_arena *work);
/* saved as forward left it; gradients are overwritten. */
ha_status ha_linear_attention_backward(const ha_linear_attention *a, const ha_batch *batch,
                                       const ha_linear_attention_in *in, const float *saved,
                                       const ha_linear_attention_upstream *upstream,
                                       const ha_linear_attention_gradient *gradient, ha_arena *work);

#endif
