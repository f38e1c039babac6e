/* The feature map of a mixer's queries and keys, chosen by number: its weights, if it has any, and
 * both passes. */
#ifndef HA_MIXERS_FEATURE_MAP_H
#define HA_MIXERS_FEATURE_MAP_H

#include "mixers/mixer.h"
#include "ops/ops.h"

#define HA_FEATURE_OPTION(number)                                                      \
    {                                                                                  \
        "feature", number, 0, 3, "feature map: 0 elu + 1, 1 relu, 2 hedgehog, 3 favor" \
    }

/* Adds feature_q.weight [heads, dim, dim] and feature_k.weight [kv_heads, dim, dim] at `slot` and
 * the one after it: learned for hedgehog, fixed for favor, none for the others. */
ha_status ha_features_declare(ha_mixer *mixer, const char *prefix, int layer, ha_feature map, int slot,
                              ha_params *params);
/* Starts both weights in the arena `weights`. */
void ha_features_init(const ha_mixer *mixer, ha_feature map, int slot, float *weights, ha_rng *rng);

/* qkv [rows, heads + 2 kv_heads, dim] -> queries [rows, heads, width], keys [rows, kv_heads,
 * width] */
ha_status ha_features_forward(const ha_mixer *mixer, const ha_pass *pass, ha_feature map, int slot, const float *qkv,
                              float *queries, float *keys);
/* Features of queries [rows, heads, width] and of keys [rows, kv_heads, width], or their
 * gradients. */
typedef struct {
    const float *queries, *keys;
} ha_features;

/* What sums over a batch read: its features, and values [rows, kv_heads, dim] where a joined
 * projection left them. */
ha_status ha_features_operands(const ha_linear_attention *sums, const ha_batch *batch, const ha_features *features,
                               ha_rows values, ha_linear_attention_in *operands, ha_arena *arena);
/* dqkv += ..., and the weights' gradients */
ha_status ha_features_backward(const ha_mixer *mixer, const ha_pass *pass, ha_feature map, int slot, const float *qkv,
                               const ha_features *features, const ha_features *upstream, float *dqkv);

#endif
