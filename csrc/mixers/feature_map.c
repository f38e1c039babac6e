#include "mixers/feature_map.h"

#include <math.h>
#include <string.h>

ha_status ha_features_declare(ha_mixer *mixer, const char *prefix, int layer, ha_feature map, int slot,
                              ha_params *params)
{
    const ha_config *c = mixer->config;
    const ha_group group = map == HA_FEATURE_FAVOR ? HA_GROUP_FIXED : HA_GROUP_MIXER;
    if (!ha_feature_has_weight(map))
        return HA_OK;
    ha_param facts = {
        .group = group, .layer = layer, .aligns = 1, .ndim = 3, .shape = {c->num_heads, c->head_dim, c->head_dim}};
    HA_TRY(ha_params_add(params, prefix, "feature_q.weight", &facts, &mixer->at[slot]));
    facts.shape[0] = c->num_kv_heads;
    return ha_params_add(params, prefix, "feature_k.weight", &facts, &mixer->at[slot + 1]);
}

/* Scaled identities: phi(q).phi(k) then follows q.k, as the softmax does. */
static void identities(int heads, int d, float *w)
{
    const float start = 1.0f / sqrtf(sqrtf((float)d)); /* q.k / sqrt(dim), half of the root on each side */
    memset(w, 0, (size_t)heads * (size_t)(d * d) * sizeof *w);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < d; i++)
            w[((ptrdiff_t)h * d + i) * d + i] = start;
}

/* <x, y> of d numbers, in double */
static double dot(int d, const float *x, const float *y)
{
    double sum = 0.0;
    for (int c = 0; c < d; c++)
        sum += (double)x[c] * (double)y[c];
    return sum;
}

/* Gaussian rows made orthogonal, each keeping the length it was drawn with, over dim^1/4 for q.k /
 * sqrt(dim). */
static void orthogonal(int d, float *w, ha_rng *rng)
{
    for (int i = 0; i < d; i++) {
        float *row = w + (ptrdiff_t)i * d;
        for (int c = 0; c < d; c++)
            row[c] = ha_rng_normal(rng) / sqrtf(sqrtf((float)d));
        const double length = dot(d, row, row);
        for (int pass = 0; pass < 2; pass++) /* the second takes what rounding left */
            for (int j = 0; j < i; j++) {
                const float *other = w + (ptrdiff_t)j * d;
                const double along = dot(d, row, other) / dot(d, other, other);
                for (int c = 0; c < d; c++)
                    row[c] -= (float)(along * (double)other[c]);
            }
        const float stretch = (float)sqrt(length / dot(d, row, row));
        for (int c = 0; c < d; c++)
            row[c] *= stretch;
    }
}

void ha_features_init(const ha_mixer *mixer, ha_feature map, int slot, float *weights, ha_rng *rng)
{
    const ha_config *c = mixer->config;
    const int d = c->head_dim, group = c->num_heads / c->num_kv_heads;
    if (!ha_feature_has_weight(map))
        return;
    float *q = weights + mixer->at[slot], *k = weights + mixer->at[slot + 1];
    if (map == HA_FEATURE_HEDGEHOG) {
        identities(c->num_heads, d, q);
        identities(c->num_kv_heads, d, k);
        return;
    }
    for (int h = 0; h < c->num_kv_heads; h++) {
        orthogonal(d, k + (ptrdiff_t)h * d * d, rng);
        for (int g = 0; g < group; g++) /* a query's features are those of its key */
            memcpy(q + (ptrdiff_t)(h * group + g) * d * d, k + (ptrdiff_t)h * d * d, (size_t)(d * d) * sizeof *q);
    }
}

/* A factor of a query's features cancels in the normaliser: favor's exp(-|q|^2/2) gives way to the
 * sum of the features, which makes them hedgehog's and keeps them in range. */
static ha_feature query_map(ha_feature map)
{
    return map == HA_FEATURE_FAVOR ? HA_FEATURE_HEDGEHOG : map;
}

/* The maps of queries and of keys. */
static void maps_of(const ha_mixer *mixer, const ha_pass *pass, ha_feature map, int slot, ha_feature_map maps[2])
{
    const ha_config *c = mixer->config;
    maps[0] = (ha_feature_map){query_map(map), c->num_heads, c->head_dim, ha_weight(mixer, pass, slot)};
    maps[1] = (ha_feature_map){map, c->num_kv_heads, c->head_dim, ha_weight(mixer, pass, slot + 1)};
}

ha_status ha_features_forward(const ha_mixer *mixer, const ha_pass *pass, ha_feature map, int slot, const float *qkv,
                              float *queries, float *keys)
{
    const ha_config *c = mixer->config;
    const int rows = pass->batch->rows, d = c->head_dim, F = ha_feature_width(map, d), q = c->num_heads * d,
              width = q + 2 * c->num_kv_heads * d;
    ha_feature_map maps[2];
    maps_of(mixer, pass, map, slot, maps);
    HA_TRY(
        ha_feature_forward(&maps[0], rows, ha_rows_of(qkv, width), ha_rows_to(queries, c->num_heads * F), pass->arena));
    return ha_feature_forward(&maps[1], rows, ha_rows_of(qkv + q, width), ha_rows_to(keys, c->num_kv_heads * F),
                              pass->arena);
}

ha_status ha_features_operands(const ha_linear_attention *sums, const ha_batch *batch, const ha_features *features,
                               ha_rows values, ha_linear_attention_in *operands, ha_arena *arena)
{
    const int query_width = sums->heads * sums->features, key_width = sums->kv_heads * sums->features;
    ha_rows *keys, *own_values;
    HA_PUSH(keys, arena, (size_t)batch->n_seq);
    HA_PUSH(own_values, arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++) {
        keys[s] = ha_rows_from(ha_rows_of(features->keys, key_width), batch->offset[s], 0);
        own_values[s] = ha_rows_from(values, batch->offset[s], 0);
    }
    *operands = (ha_linear_attention_in){ha_rows_of(features->queries, query_width), keys, own_values};
    return HA_OK;
}

ha_status ha_features_backward(const ha_mixer *mixer, const ha_pass *pass, ha_feature map, int slot, const float *qkv,
                               const ha_features *features, const ha_features *upstream, float *dqkv)
{
    const ha_config *c = mixer->config;
    const int rows = pass->batch->rows, d = c->head_dim, F = ha_feature_width(map, d), q = c->num_heads * d,
              width = q + 2 * c->num_kv_heads * d, learns = map == HA_FEATURE_HEDGEHOG;
    const int queries = c->num_heads * F, keys = c->num_kv_heads * F;
    ha_feature_map maps[2];
    maps_of(mixer, pass, map, slot, maps);
    HA_TRY(ha_feature_backward(&maps[0], rows, ha_rows_of(qkv, width), ha_rows_of(features->queries, queries),
                               ha_rows_of(upstream->queries, queries), ha_rows_to(dqkv, width),
                               learns ? ha_grad(mixer, pass, slot) : NULL, pass->arena));
    return ha_feature_backward(&maps[1], rows, ha_rows_of(qkv + q, width), ha_rows_of(features->keys, keys),
                               ha_rows_of(upstream->keys, keys), ha_rows_to(dqkv + q, width),
                               learns ? ha_grad(mixer, pass, slot + 1) : NULL, pass->arena);
}
