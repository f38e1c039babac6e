#include "mixers/recurrent_gates.h"

#include <math.h>

#include "kernels/kernels.h"
#include "mixers/recurrent_layout.h"

void ha_sigmoid_decay(int n, float power, const float *x, float *g)
{
    for (int i = 0; i < n; i++) /* log sigmoid(x) = min(x, 0) - log(1 + e^-|x|) */
        g[i] = power * (fminf(x[i], 0.0f) - log1pf(expf(-fabsf(x[i]))));
}

void ha_sigmoid_decay_backward(int n, float power, const float *x, const float *dg, float *dx)
{
    for (int i = 0; i < n; i++)
        dx[i] = power * dg[i] / (1.0f + expf(x[i]));
}

/* Numbers of the decay for each head: one, or one a channel. */
static int decays_per_head(const ha_mixer *mixer)
{
    const ha_recurrent *f = mixer->kind->frame;
    return f->gate == HA_GATE_HEAD ? 1 : mixer->config->head_dim;
}

void ha_decay_init(const ha_mixer *mixer, float *weights, ha_rng *rng)
{
    const ha_recurrent_part *part = ((const ha_recurrent *)mixer->kind->frame)->part;
    int decay = 0; /* the part that makes it */
    while (!part[decay].bias)
        decay++;
    float *a_log = weights + mixer->at[HA_SLOT_KIND], *bias = weights + mixer->at[HA_SLOT_BIAS + decay];
    const int heads = ha_recurrent_layout_of(mixer).kv_heads;
    for (int h = 0, n = decays_per_head(mixer); h < heads; h++, bias += n) {
        for (int i = 0; i < n; i++) {
            double step = exp(ha_rng_uniform(rng) * log(100.0) + log(0.001));
            bias[i] = (float)(step + log(-expm1(-step)));
        }
        a_log[h] = (float)log(1.0 + 15.0 * ha_rng_uniform(rng));
    }
}

float ha_softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

void ha_decay_gates(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    const int n = decays_per_head(mixer);
    ha_activate(HA_ACT_SIGMOID, (size_t)t->heads, t->part[HA_PART_BETA], t->beta);
    for (int h = 0; h < t->heads; h++) {
        const float rate = -expf(a_log[h]);
        for (int i = h * n; i < (h + 1) * n; i++)
            t->log_decay[i] = rate * ha_softplus(t->part[HA_PART_DECAY][i]);
    }
}

void ha_decay_gates_backward(const ha_mixer *mixer, const ha_pass *pass, const ha_recurrent_token *t,
                             const ha_recurrent_token_gradient *d)
{
    const float *a_log = ha_weight(mixer, pass, HA_SLOT_KIND);
    const int n = decays_per_head(mixer);
    ha_activate_backward(HA_ACT_SIGMOID, (size_t)t->heads, t->part[HA_PART_BETA], d->beta, d->part[HA_PART_BETA]);
    for (int h = 0; h < t->heads; h++) {
        const float rate = -expf(a_log[h]);
        for (int i = h * n; i < (h + 1) * n; i++)
            d->part[HA_PART_DECAY][i] = d->log_decay[i] * rate / (1.0f + expf(-t->part[HA_PART_DECAY][i]));
    }
}
