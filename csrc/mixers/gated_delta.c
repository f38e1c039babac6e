/* Gated DeltaNet as the students of arXiv 2512.20569 use it: q, k, v = silu(x W), q and k of length
 * 1, the delta rule with beta = sigmoid(x W_b) and g = -exp(A_log) softplus(x W_a + dt_bias),
 * output RMSNorm per head times silu(x W_g). */
#include "mixers/recurrent.h"
#include "mixers/recurrent_gates.h"

static const ha_recurrent frame = {
    .form = HA_FORM_DELTA,
    .gate = HA_GATE_HEAD,
    .part = {[HA_PART_OUTPUT] = {"g"},
             [HA_PART_BETA] = {"b", .per = HA_PER_HEAD},
             [HA_PART_DECAY] = {"a", "dt_bias", .per = HA_PER_HEAD}},
    .has_output_gate = 1,
    .output = HA_ACT_SILU,
    .norm = HA_OUTPUT_NORM_HEAD,
    .unit = 1,
    .own_heads = 1,
    .decays = 1,
    .init = ha_decay_init,
    .gates = ha_decay_gates,
    .gates_backward = ha_decay_gates_backward,
};

const ha_mixer_kind ha_gated_delta_mixer = {
    .name = "gated_delta",
    .summary = "Gated DeltaNet: a gated delta-rule state of fixed size per head",
    .phrase = "a recurrent state that is overwritten by a gated delta rule",
    .align_rate = 0.006,
    .option = {HA_RECURRENT_OPTIONS(0, 1),
               HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_FULL, HA_OUTPUT_GATE_FULL),
               {"heads", 0, 0, 1 << 12, "heads, 0: as many as softmax has"},
               {"key_heads", 0, 0, 1 << 12, "heads of q and k, each for as many of the others, 0: all"},
               {"head_dim", 0, 0, 1 << 12, "channels of a head, 0: as softmax has"}},
    HA_RECURRENT(frame),
};
