/* Gated Slot Attention (Zhang et al. 2024, arXiv 2409.07146): softmax attention over a fixed number
 * of slots, each a gated mean of keys and one of values; w = sigmoid(x W_f)^(1/8) per slot, a slot
 * takes in 1 - w of a token. q, k, v = silu(x W), output RMSNorm over all channels of silu(o). */
#include <math.h>

#include "mixers/recurrent.h"
#include "mixers/recurrent_gates.h"

enum { GATE };
static const float POWER = 1.0f / 8.0f; /* the damping */

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    (void)mixer, (void)pass;
    ha_sigmoid_decay(t->gated, POWER, t->part[GATE], t->log_decay);
    for (int i = 0; i < t->gated; i++)
        t->written[i] = -expm1f(t->log_decay[i]);
}

/* Gradients of the gates' part. */
static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    float *dg = d->part[GATE];
    (void)mixer, (void)pass;
    for (int i = 0; i < t->gated; i++)
        dg[i] = d->log_decay[i] - d->written[i] * expf(t->log_decay[i]);
    ha_sigmoid_decay_backward(t->gated, POWER, t->part[GATE], dg, dg);
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_CHANNEL,
    .part = {[GATE] = {"f", .per = HA_PER_SLOT}},
    .norm = HA_OUTPUT_NORM_WHOLE,
    .writes_own = 1,
    .slots = 1,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_gsa_mixer = {
    .name = "gsa",
    .summary = "Gated Slot Attention: softmax over a fixed number of slots, each a gated mean of keys and of values",
    .phrase = "exact attention over a fixed number of slots, each a gated mean of keys and of values",
    .align_rate = 0.01,
    .option = {HA_RECURRENT_OPTIONS(0, 1), {"slots", 64, 1, HA_MAX_HEAD_DIM, "keys and values of a head"}},
    HA_RECURRENT(frame),
};
