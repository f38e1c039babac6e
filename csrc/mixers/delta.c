/* DeltaNet (Yang et al. 2024, arXiv 2406.06484): the delta rule without decay, beta = sigmoid(x
 * W_b); q, k, v = silu(x W), q and k of length 1, output RMSNorm per head. */
#include "kernels/kernels.h"
#include "mixers/recurrent.h"

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    (void)mixer, (void)pass;
    ha_activate(HA_ACT_SIGMOID, (size_t)t->heads, t->part[0], t->beta);
}

static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    (void)mixer, (void)pass;
    ha_activate_backward(HA_ACT_SIGMOID, (size_t)t->heads, t->part[0], d->beta, d->part[0]);
}

static const ha_recurrent frame = {
    .form = HA_FORM_DELTA,
    .gate = HA_GATE_NONE,
    .part = {{"b", .per = HA_PER_HEAD}},
    .norm = HA_OUTPUT_NORM_HEAD,
    .unit = 1,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_delta_mixer = {
    .name = "delta",
    .summary = "DeltaNet: a delta-rule state of fixed size per head, without decay",
    .phrase = "a recurrent state that is overwritten by the delta rule",
    .align_rate = 0.01,
    .option = {HA_RECURRENT_OPTIONS(0, 1)},
    HA_RECURRENT(frame),
};
