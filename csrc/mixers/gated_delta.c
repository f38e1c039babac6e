/* Gated DeltaNet as the students of arXiv 2512.20569 use it: q, k, v = silu(x W), q and k of length 1, the delta rule with
 * beta = sigmoid(x W_b) and g = -exp(A_log) softplus(x W_a + dt_bias), output RMSNorm per head times silu(x W_g). */
#include "mixers/recurrent.h"

enum { OUTPUT, BETA, DECAY };

static void init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    ha_decay_init(mixer->config->num_heads, 1, weights + mixer->at[HA_SLOT_KIND],
                  weights + mixer->at[HA_SLOT_BIAS + DECAY], rng);
}

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    ha_activate(HA_ACT_SIGMOID, (size_t)t->heads, t->part[BETA], t->beta);
    for (int h = 0; h < t->heads; h++)
        ha_decay(1, a_log[h], t->part[DECAY] + h, t->g + h);
}

static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    ha_activate_backward(HA_ACT_SIGMOID, (size_t)t->heads, t->part[BETA], d->beta, d->part[BETA]);
    for (int h = 0; h < t->heads; h++)
        ha_decay_backward(1, a_log[h], t->part[DECAY] + h, d->g + h, d->part[DECAY] + h);
}

static const ha_recurrent frame = {
    .form = HA_FORM_DELTA,
    .gate = HA_GATE_HEAD,
    .part = {[OUTPUT] = {"g"}, [BETA] = {"b", .per = HA_PER_HEAD}, [DECAY] = {"a", "dt_bias", .per = HA_PER_HEAD}},
    .has_output_gate = 1,
    .output = HA_ACT_SILU,
    .norm = HA_OUTPUT_NORM_HEAD,
    .unit = 1,
    .decays = 1,
    .init = init,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_gated_delta_mixer = {
    .name = "gated_delta",
    .summary = "Gated DeltaNet: a gated delta-rule state of fixed size per head",
    .option = {HA_RECURRENT_OPTIONS(0, 1)},
    HA_RECURRENT(frame),
};
