/* RWKV-7 as RADLADS (arXiv 2505.03005) converts to it: no token shift, q and k rotated. Per
 * channel, with d, a, gate of low rank from x: w = exp(-e^-1/2 sigmoid(d)), a = sigmoid(a), kappa =
 * k / |k|, key = k (1 - w + a),
 *     S = diag(w) S - (a kappa) (S^T kappa)^T + key v^T,   y = o * gate, gate = up(sigmoid(down(x))).
 * Left out: the value residual from the first layer, since a mixer sees its own layer only. */
#include <math.h>

#include "kernels/kernels.h"
#include "mixers/recurrent.h"

enum { OUTPUT, DECAY, RATE, RANK = 64 };
static const float SLOPE = 0.60653066f; /* e^-1/2 */
static const float TINY = 1e-6f;

/* Decays and the output gate. */
static void init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    float *decay = weights + mixer->at[HA_SLOT_BIAS + DECAY];
    (void)rng;
    /* Slow to fast over the channels of a head, as RWKV starts; the gate is open: 2 sigmoid(.)
     * averages 1. */
    for (int i = 0; i < l.kept; i++)
        decay[i] = -6.0f + 5.0f * (float)(i % l.dim) / (float)l.dim;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)l.inner * l.rank[OUTPUT]; i++)
        weights[mixer->at[HA_SLOT_UP + OUTPUT] + (size_t)i] += 2.0f / (float)l.rank[OUTPUT];
}

static float inverse_length(int dim, const float *k)
{
    return 1.0f / sqrtf(ha_kernels_get()->dot((size_t)dim, k, k) + TINY);
}

/* All four operands from decay and rate. */
static void gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    const size_t inner = (size_t)t->heads * (size_t)t->dim;
    (void)mixer, (void)pass;
    ha_activate(HA_ACT_SIGMOID, inner, t->part[DECAY], t->log_decay);
    ha_activate(HA_ACT_SIGMOID, inner, t->part[RATE], t->erase_write);
    for (int h = 0; h < t->heads; h++) {
        const float inverse = inverse_length(t->dim, t->keys + (ptrdiff_t)h * t->dim);
        for (int i = h * t->dim; i < (h + 1) * t->dim; i++) {
            t->log_decay[i] *= -SLOPE;
            t->erase_read[i] = inverse * t->keys[i];
            t->written[i] = t->keys[i] * (t->erase_write[i] - expm1f(t->log_decay[i]));
            t->erase_write[i] *= -t->erase_read[i];
        }
    }
}

/* Gradients of both parts and of the keys. */
static void gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                           const ha_recurrent_token_gradient *d)
{
    const size_t inner = (size_t)t->heads * (size_t)t->dim;
    float *rate = d->part[RATE], *decay = d->part[DECAY];
    (void)mixer, (void)pass;
    ha_activate(HA_ACT_SIGMOID, inner, t->part[RATE], rate); /* until its gradient takes the place */
    for (int h = 0; h < t->heads; h++) {
        const float inverse = inverse_length(t->dim, t->keys + (ptrdiff_t)h * t->dim);
        float along = 0.0f;
        for (int i = h * t->dim; i < (h + 1) * t->dim; i++) { /* d->keys holds the gradient of kappa for now */
            d->keys[i] = d->erase_read[i] - rate[i] * d->erase_write[i];
            along += d->keys[i] * t->erase_read[i];
        }
        for (int i = h * t->dim; i < (h + 1) * t->dim; i++) {
            const float w = expf(t->log_decay[i]), a = rate[i], s = t->log_decay[i] / -SLOPE;
            d->keys[i] = inverse * (d->keys[i] - along * t->erase_read[i]) + d->written[i] * (1.0f - w + a);
            rate[i] = (d->written[i] * t->keys[i] - d->erase_write[i] * t->erase_read[i]) * a * (1.0f - a);
            decay[i] = (d->log_decay[i] - d->written[i] * t->keys[i] * w) * -SLOPE * s * (1.0f - s);
        }
    }
}

static const ha_recurrent frame = {
    .form = HA_FORM_ERASE,
    .gate = HA_GATE_CHANNEL,
    .part = {[OUTPUT] = {"g", .inner = HA_ACT_SIGMOID},
             [DECAY] = {"w", "w_bias", .rank = RANK, .inner = HA_ACT_TANH},
             [RATE] = {"a", "a_bias", .rank = RANK}},
    .has_output_gate = 1,
    .output = HA_ACT_NONE,
    .writes_own = 1,
    .init = init,
    .gates = gates,
    .gates_backward = gates_backward,
};

const ha_mixer_kind ha_rwkv7_mixer = {
    .name = "rwkv7",
    .summary = "RWKV-7: a state that decays by channel and erases along each key at rates of its own",
    .phrase = "the recurrent state of RWKV-7",
    .align_rate = 0.006,
    .option = {HA_RECURRENT_OPTIONS(1, 0), HA_OUTPUT_GATE_OPTIONS(HA_OUTPUT_GATE_LOW_RANK, HA_OUTPUT_GATE_LOW_RANK)},
    HA_RECURRENT(frame),
};
