/* The linear recurrence: what its passes read and write. */
#ifndef HA_OPS_OPS_RECURRENCE_H
#define HA_OPS_OPS_RECURRENCE_H

#include "core/arena.h"
#include "core/batch.h"
#include "core/dtype.h"
#include "core/rows.h"
#include "core/status.h"

/* The linear recurrence that every mixer with a state of fixed size runs on: per head, S [dk,dv], w
 * = exp(g),
 *     u_t = S_{t-1}^T b_t,   S_t = diag(w_t) S_{t-1} + a_t u_t^T + k_t v_t^T,   o_t = S_t^T q_t.
 * Without a and b nothing is erased (retention, GLA, RWKV-6, linear attention); with beta instead
 * of them it is the delta rule (DeltaNet, Gated DeltaNet, KDA): b = w k and k_t (beta_t (v_t -
 * u_t))^T in the place of both outer products. With a gate of the values' channels w decays the
 * columns of S instead, and nothing is erased: S_{t-1} diag(w_t) + k_t v_t^T. A state may be read by
 * several heads of queries, o_t = S_t^T q_t of each: head h by those from h * group on. */
typedef enum { HA_GATE_NONE, HA_GATE_HEAD, HA_GATE_CHANNEL, HA_GATE_VALUE } ha_gate;

typedef struct {
    int heads, key_dim, value_dim; /* heads of states */
    ha_gate gate;
    int group; /* heads of queries for each of them, 1 or more */
} ha_recurrence;

/* q [rows, heads * group, dk], k [rows, heads, dk] and v [rows, heads, dv]; g <= 0, by the gate
 * [rows, heads], [rows, heads, dk], [rows, heads, dv] or NULL; beta [rows, heads]; a and b [rows,
 * heads, dk]. beta or a and b or all three are NULL. q has query_stride floats from row to row, k,
 * a and b key_stride, v value_stride; the gates lie without gaps. */
typedef struct {
    const float *queries, *keys, *values, *log_decay, *beta, *erase_write, *erase_read;
    ptrdiff_t query_stride, key_stride, value_stride;
} ha_recurrence_in;

/* Gradients of the same, all overwritten; those of NULL operands are not looked at. */
typedef struct {
    float *queries, *keys, *values, *log_decay, *beta, *erase_write, *erase_read;
    ptrdiff_t query_stride, key_stride, value_stride;
} ha_recurrence_out;

enum { HA_CHUNK = 64 }; /* tokens from one saved state to the next */

/* Floats of saved states: chunks of all sequences times [heads, dv, dk]. */
size_t ha_recurrence_states(const ha_recurrence *r, const ha_batch *batch);

/* What forward keeps for backward: u [rows, heads, dv], what was read before each write, where
 * something is erased; states as sized above. */
typedef struct {
    float *reads, *states;
} ha_recurrence_saved;

/* recurrence.c: state_in, state_out [n_seq] pointers to [heads, dk, dv], each may be NULL (zero /
 * not wanted); out [rows, heads * group, dv]. saved, and each of its members, may be NULL. */
ha_status ha_recurrence_forward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                float *const *state_in, float *const *state_out, ha_rows_out out,
                                const ha_recurrence_saved *saved, ha_arena *work);
/* recurrence_backward.c: dout [rows, heads * group, dv]; state_gradient [n_seq]: of state_out on entry, of
 * state_in on return; or NULL. */
ha_status ha_recurrence_backward(const ha_recurrence *r, const ha_batch *batch, const ha_recurrence_in *in,
                                 const ha_recurrence_saved *saved, ha_rows dout, float *const *state_gradient,
                                 const ha_recurrence_out *gradient, ha_arena *work);

#endif
