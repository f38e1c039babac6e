#include "mixers/own_heads.h"

#include <math.h>
#include <string.h>

ha_status ha_own_heads(ha_mixer *mixer, int layer)
{
    const ha_recurrent *f = mixer->kind->frame;
    const ha_config *c = mixer->config;
    const int *option = mixer->option;
    const char *name = mixer->kind->name;
    mixer->own = (ha_heads){0};
    if (!f->own_heads || !(option[HA_OPTION_HEADS] || option[HA_OPTION_KEY_HEADS] || option[HA_OPTION_HEAD_DIM]))
        return HA_OK;
    const int heads = option[HA_OPTION_HEADS] ? option[HA_OPTION_HEADS] : c->num_heads;
    const int key_heads = option[HA_OPTION_KEY_HEADS] ? option[HA_OPTION_KEY_HEADS] : heads;
    const int dim = option[HA_OPTION_HEAD_DIM] ? option[HA_OPTION_HEAD_DIM] : c->head_dim;
    if (heads % key_heads)
        return ha_fail(HA_BAD_VALUE, "layers[%d]: %s's key_heads is %d, allowed are divisors of heads (%d)", layer,
                       name, key_heads, heads);
    if (option[HA_OPTION_GROUPED])
        return ha_fail(HA_BAD_VALUE, "layers[%d]: %s's grouped is 1, allowed with heads of its own shape is 0", layer,
                       name);
    if (option[HA_OPTION_ROPE])
        return ha_fail(HA_BAD_VALUE, "layers[%d]: %s's rope is 1, allowed with heads of its own shape is 0", layer,
                       name);
    if (c->qk_norm && option[HA_OPTION_QK_NORM])
        return ha_fail(HA_BAD_VALUE, "layers[%d]: %s's qk_norm is 1, allowed with heads of its own shape is 0", layer,
                       name);
    mixer->own = (ha_heads){heads, key_heads, dim};
    return HA_OK;
}

/* Where the softmax mixer keeps what channel `channel` of q, k or v (which) reads, all its heads
 * side by side: a row of its joined projection, or -1. */
static ptrdiff_t softmax_row(const ha_config *c, int which, int channel)
{
    const int head = channel / c->head_dim;
    if (head >= c->num_heads)
        return -1;
    if (which == 0)
        return channel;
    const int group = c->num_heads / c->num_kv_heads, first = c->num_heads + (which - 1) * c->num_kv_heads;
    return (ptrdiff_t)(first + head / group) * c->head_dim + channel % c->head_dim;
}

/* One row of q, k or v and its bias. */
static void transfer_row(const ha_mixer *mixer, const ha_mixer *softmax, ptrdiff_t row, ptrdiff_t from, float *weights,
                         ha_rng *rng)
{
    const size_t d = (size_t)mixer->config->hidden_size;
    float *to = weights + mixer->at[HA_SLOT_QKV] + (size_t)row * d;
    if (from >= 0)
        memcpy(to, weights + softmax->at[HA_SLOT_QKV] + (size_t)from * d, d * sizeof *to);
    for (size_t i = 0; from < 0 && i < d; i++)
        to[i] = ha_rng_normal(rng) / sqrtf((float)d);
    if (mixer->at[HA_SLOT_QKV_BIAS] != HA_NONE)
        weights[mixer->at[HA_SLOT_QKV_BIAS] + (size_t)row] =
            from < 0 ? 0.0f : weights[softmax->at[HA_SLOT_QKV_BIAS] + (size_t)from];
}

void ha_own_heads_transfer(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    const ha_config *c = mixer->config;
    const ha_recurrent_layout l = ha_recurrent_layout_of(mixer);
    const int wide = c->num_heads * c->head_dim, group = l.heads / l.key_heads;
    for (int which = 0; which < 3; which++)
        for (int i = 0, n = l.across[which]; i < n; i++) {
            const int channel = which < 2 ? i / l.dim * group * l.dim + i % l.dim : i;
            transfer_row(mixer, softmax, l.from[which] + i, softmax_row(c, which, channel), weights, rng);
        }
    float *to = weights + mixer->at[HA_SLOT_O];
    const float *from = weights + softmax->at[HA_SLOT_O];
    const float deviation = 1.0f / sqrtf((float)l.inner);
    for (ptrdiff_t r = 0; r < c->hidden_size; r++)
        for (int i = 0; i < l.inner; i++)
            to[r * l.inner + i] = i < wide ? from[r * wide + i] : deviation * ha_rng_normal(rng);
    if (mixer->at[HA_SLOT_O_BIAS] != HA_NONE)
        memcpy(weights + mixer->at[HA_SLOT_O_BIAS], weights + softmax->at[HA_SLOT_O_BIAS],
               (size_t)c->hidden_size * sizeof *weights);
}

void ha_own_heads_repeat(const ha_recurrent_layout *l, float *row)
{
    const int group = l->heads / l->key_heads;
    const size_t bytes = (size_t)l->dim * sizeof *row;
    for (int h = l->heads - 1; group > 1 && h > 0; h--) /* from the end: what is written over has been read */
        memmove(row + (ptrdiff_t)h * l->dim, row + (ptrdiff_t)(h / group) * l->dim, bytes);
}

void ha_own_heads_fold(const ha_recurrent_layout *l, float *y, float *dy)
{
    const int group = l->heads / l->key_heads, dim = l->dim;
    for (ptrdiff_t h = 0; group > 1 && h < l->key_heads; h++)
        for (int i = 0; i < dim; i++) {
            float sum = 0.0f;
            for (int j = 0; j < group; j++)
                sum += dy[(h * group + j) * dim + i];
            dy[h * dim + i] = sum;
            y[h * dim + i] = y[h * group * dim + i];
        }
}
