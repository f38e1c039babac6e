/* Gated linear attention (Yang et al. 2023, arXiv 2312.06635): an additive state with a decay for every channel of a key,
 * w = sigmoid(up(down(x)) + bias)^(1/16); output RMSNorm per head times silu(x W_g). */
#include <math.h>

#include "mixers/recurrent.h"

enum { OUTPUT, DECAY, RANK = 16 };
static const float SHARE = 1.0f / 16.0f; /* the power of the gate */

static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t)
{
    (void)mixer, (void)pass;
    for (int i = 0; i < t->heads * t->dim; i++) { /* log sigmoid(z) = min(z, 0) - log(1 + e^-|z|) */
        const float z = t->part[DECAY][i];
        t->g[i] = SHARE * (fminf(z, 0.0f) - log1pf(expf(-fabsf(z))));
    }
}

static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_token *t, const ha_token_gradient *d)
{
    (void)mixer, (void)pass;
    for (int i = 0; i < t->heads * t->dim; i++)
        d->part[DECAY][i] = SHARE * d->g[i] / (1.0f + expf(t->part[DECAY][i]));
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_CHANNEL,
    .part = {[OUTPUT] = {"g"}, [DECAY] = {"w", "w_bias", .rank = RANK}},
    .has_output_gate = 1,
    .output = HA_SILU,
    .norm = 1,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_gla_mixer = {
    .name = "gla",
    .summary = "gated linear attention: an additive state with a decay for every channel of a key",
    .option = {HA_RECURRENT_OPTIONS(0, 0)},
    HA_RECURRENT(frame),
};
