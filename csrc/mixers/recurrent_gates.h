/* Gates that several kinds share. */
#ifndef HA_MIXERS_RECURRENT_GATES_H
#define HA_MIXERS_RECURRENT_GATES_H

#include "mixers/recurrent_kind.h"

/* log sigmoid(x) times `power`, for n numbers; dx = its gradient from dg. */
void ha_sigmoid_decay(int n, float power, const float *x, float *g);
/* dx [n] = the gradient of x from dg [n]. */
void ha_sigmoid_decay_backward(int n, float power, const float *x, const float *dg, float *dx);
/* Gates of the kinds that have these parts: beta = sigmoid(x), a number a head, and Mamba-2's decay
 * g = -exp(A_log) softplus(x), a number a head or a channel, as the frame's `gate` says. Start, per
 * head: A uniform in [1, 16), biases of the decay with softplus(bias) log-uniform in [.001, .1). */
enum { HA_PART_OUTPUT, HA_PART_BETA, HA_PART_DECAY };
/* log(1 + e^x) */
float ha_softplus(float x);
/* of any kind with A_log; the bias is that of its only part with one */
void ha_decay_init(const ha_mixer *mixer, float *weights, ha_rng *rng);
/* Fills beta and log_decay of a token. */
void ha_decay_gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t);
/* Fills the gradients of both parts of a token. */
void ha_decay_gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                             const ha_recurrent_token_gradient *d);

#endif
