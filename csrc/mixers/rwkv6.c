/* RWKV-6 as RADLADS (arXiv 2505.03005) converts to it: no token shift, no bonus for the current
 * token, no norm, q and k rotated. Per channel, with z = up(tanh(down(x))) + bias,
 *     w = exp(-exp(z)), its log at least -5,   S = diag(w) S + (1 - w) k v^T,   y = o * sigmoid(up(down(x))). */
#include <math.h>

#include "mixers/recurrent.h"

enum { OUTPUT, DECAY, RANK = 64 };
static const float LEAST = -5.0f;

/* Decays slow to fast. */
static void init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    float *decay = weights + mixer->at[HA_SLOT_BIAS + DECAY];
    (void)rng;
    for (int i = 0; i < l.kept; i++) /* slow to fast over the channels of a head */
        decay[i] = -6.0f + 5.0f * (float)(i % l.dim) / (float)l.dim;
}

/* log_decay, and written = (1 - decay) key */
static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    (void)mixer, (void)pass;
    for (int i = 0; i < t->heads * t->dim; i++) {
        const float g = -expf(t->part[DECAY][i]);
        t->log_decay[i] = g < LEAST ? LEAST : g; /* NaN stays */
        t->written[i] = -expm1f(t->log_decay[i]) * t->keys[i];
    }
}

/* dg / dz = g, and nothing where the decay is held at its limit */
static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    (void)mixer, (void)pass;
    for (int i = 0; i < t->heads * t->dim; i++) {
        const float w = expf(t->log_decay[i]), dg = d->log_decay[i] - d->written[i] * t->keys[i] * w;
        d->part[DECAY][i] = t->log_decay[i] == LEAST ? 0.0f : dg * t->log_decay[i];
        d->keys[i] = d->written[i] * -expm1f(t->log_decay[i]);
    }
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_CHANNEL,
    .part = {[OUTPUT] = {"g"}, [DECAY] = {"w", "w_bias", .rank = RANK, .inner = HA_ACT_TANH}},
    .has_output_gate = 1,
    .output = HA_ACT_SIGMOID,
    .writes_own = 1,
    .init = init,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_rwkv6_mixer = {
    .name = "rwkv6",
    .summary = "RWKV-6: an additive state that takes in of each channel what it lets go of",
    .phrase = "the recurrent state of RWKV-6",
    .align_rate = 0.003,
    .option = {HA_RECURRENT_OPTIONS(1, 0), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_LOW_RANK, HA_OUTPUT_GATE_LOW_RANK)},
    HA_RECURRENT(frame),
};
