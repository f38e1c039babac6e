/* Kimi Delta Attention (arXiv 2510.26692): Gated DeltaNet with a decay for every channel of a key.
 * beta = sigmoid(x W_b), g = -exp(A_log) softplus(up(down(x)) + dt_bias) per channel, output
 * RMSNorm per head times sigmoid(up(down(x))). Low rank: RANK. */
#include "mixers/recurrent.h"
#include "mixers/recurrent_gates.h"

enum { RANK = 64 };

static const ha_recurrent frame = {
    .form = HA_FORM_DELTA,
    .gate = HA_GATE_CHANNEL,
    .part = {[HA_PART_OUTPUT] = {"g"},
             [HA_PART_BETA] = {"b", .per = HA_PER_HEAD},
             [HA_PART_DECAY] = {"f", "dt_bias", .rank = RANK}},
    .has_output_gate = 1,
    .output = HA_ACT_SIGMOID,
    .norm = HA_OUTPUT_NORM_HEAD,
    .unit = 1,
    .decays = 1,
    .init = ha_decay_init,
    .gates = ha_decay_gates,
    .gates_backward = ha_decay_gates_backward,
};

const ha_mixer_kind ha_kda_mixer = {
    .name = "kda",
    .summary = "Kimi Delta Attention: a delta-rule state with a decay for every channel of a key",
    .phrase = "a recurrent state that is overwritten by a delta rule, with a decay for each channel",
    .align_rate = 0.006,
    .option = {HA_RECURRENT_OPTIONS(0, 1), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_LOW_RANK, HA_OUTPUT_GATE_FULL)},
    HA_RECURRENT(frame),
};
