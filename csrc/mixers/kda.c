/* Kimi Delta Attention (arXiv 2510.26692): Gated DeltaNet with a decay for every channel of a key. beta = sigmoid(x W_b),
 * g = -exp(A_log) softplus(up(down(x)) + dt_bias) per channel, output RMSNorm per head times sigmoid(up(down(x))). Low
 * rank: RANK. */
#include "mixers/recurrent.h"

enum { OUTPUT, BETA, DECAY, RANK = 64 };

static void init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    ha_decay_init(mixer->config->num_heads, mixer->config->head_dim, weights + mixer->at[HA_SLOT_KIND],
                  weights + mixer->at[HA_SLOT_BIAS + DECAY], rng);
}

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    ha_activate(HA_ACT_SIGMOID, (size_t)t->heads, t->part[BETA], t->beta);
    for (int h = 0; h < t->heads; h++)
        ha_decay(t->dim, a_log[h], t->part[DECAY] + h * t->dim, t->g + h * t->dim);
}

static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    ha_activate_backward(HA_ACT_SIGMOID, (size_t)t->heads, t->part[BETA], d->beta, d->part[BETA]);
    for (int h = 0; h < t->heads; h++)
        ha_decay_backward(t->dim, a_log[h], t->part[DECAY] + h * t->dim, d->g + h * t->dim,
                          d->part[DECAY] + h * t->dim);
}

static const ha_recurrent frame = {
    .form = HA_FORM_DELTA,
    .gate = HA_GATE_CHANNEL,
    .part =
        {[OUTPUT] = {"g", .rank = RANK}, [BETA] = {"b", .per = HA_PER_HEAD}, [DECAY] = {"f", "dt_bias", .rank = RANK}},
    .has_output_gate = 1,
    .output = HA_ACT_SIGMOID,
    .norm = HA_OUTPUT_NORM_HEAD,
    .unit = 1,
    .decays = 1,
    .init = init,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_kda_mixer = {
    .name = "kda",
    .summary = "Kimi Delta Attention: a delta-rule state with a decay for every channel of a key",
    .option = {HA_RECURRENT_OPTIONS(0, 1)},
    HA_RECURRENT(frame),
};
