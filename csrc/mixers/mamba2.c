/* Mamba-2 in its dual form (Dao and Gu 2024, arXiv 2405.21060) as MambaInLlama (arXiv 2408.15237)
 * starts it from attention: x = v, B = k and C = q, all through silu, a head each; with dt =
 * softplus(x W_a + dt_bias), a number a head,
 *     S = exp(-exp(A_log) dt) S + dt k v^T,   o = S^T q,   y = rms_norm(o silu(x W_g)) per head.
 * Left out: the skip D x. */
#include <math.h>

#include "mixers/recurrent.h"
#include "mixers/recurrent_gates.h"

enum { OUTPUT, STEP };
static const float NORM = 0.3f; /* start of its weight */

/* A norm behind the gate gives every head the same size, which is more than softmax gives most
 * (docs/log.md). */
static void init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    ha_decay_init(mixer, weights, rng);
    for (int i = 0; i < mixer->config->head_dim; i++)
        weights[mixer->at[HA_SLOT_NORM] + (size_t)i] = NORM;
}

/* log_decay and written from the step. */
static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    for (int h = 0; h < t->heads; h++) {
        const float step = ha_softplus(t->part[STEP][h]);
        t->log_decay[h] = -expf(a_log[h]) * step;
        for (int i = h * t->dim; i < (h + 1) * t->dim; i++)
            t->written[i] = step * t->keys[i];
    }
}

/* Gradients of the step's part and of the keys. */
static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    for (int h = 0; h < t->heads; h++) {
        const float x = t->part[STEP][h], step = ha_softplus(x);
        float dstep = -expf(a_log[h]) * d->log_decay[h];
        for (int i = h * t->dim; i < (h + 1) * t->dim; i++) {
            dstep += d->written[i] * t->keys[i];
            d->keys[i] = step * d->written[i];
        }
        d->part[STEP][h] = dstep / (1.0f + expf(-x));
    }
}

static const ha_recurrent frame = {
    .form = HA_FORM_ADD,
    .gate = HA_GATE_HEAD,
    .part = {[OUTPUT] = {"g"}, [STEP] = {"a", "dt_bias", .per = HA_PER_HEAD}},
    .has_output_gate = 1,
    .output = HA_ACT_SILU,
    .norm = HA_OUTPUT_NORM_HEAD,
    .gate_first = 1,
    .unscaled = 1,
    .writes_own = 1,
    .decays = 1,
    .init = init,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_mamba2_mixer = {
    .name = "mamba2",
    .summary = "Mamba-2: an additive state with one decay per head, which is also how much a token writes",
    .phrase = "the recurrent state of Mamba-2",
    .align_rate = 0.01,
    .option = {HA_RECURRENT_OPTIONS(0, 1), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_FULL, HA_OUTPUT_GATE_FULL)},
    HA_RECURRENT(frame),
};
