/* Gated linear attention (Yang et al. 2023, arXiv 2312.06635): an additive state with a decay for
 * every channel of a key, w = sigmoid(up(down(x)) + bias)^(1/16); output RMSNorm per head times
 * silu(x W_g). */
#include "mixers/recurrent.h"
#include "mixers/recurrent_gates.h"

enum { OUTPUT, DECAY, RANK = 16 };
static const float POWER = 1.0f / 16.0f;

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    (void)mixer, (void)pass;
    ha_sigmoid_decay(t->gated, POWER, t->part[DECAY], t->log_decay);
}

static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    (void)mixer, (void)pass;
    ha_sigmoid_decay_backward(t->gated, POWER, t->part[DECAY], d->log_decay, d->part[DECAY]);
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_CHANNEL,
    .part = {[OUTPUT] = {"g"}, [DECAY] = {"w", "w_bias", .rank = RANK}},
    .has_output_gate = 1,
    .output = HA_ACT_SILU,
    .norm = HA_OUTPUT_NORM_HEAD,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_gla_mixer = {
    .name = "gla",
    .summary = "gated linear attention: an additive state with a decay for every channel of a key",
    .phrase = "a recurrent state with a decay for each channel",
    .align_rate = 0.006,
    .option = {HA_RECURRENT_OPTIONS(0, 0), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_FULL, HA_OUTPUT_GATE_FULL)},
    HA_RECURRENT(frame),
};
