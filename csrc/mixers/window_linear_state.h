/* The layout of the window_linear mixer, and its decode state. */
#ifndef HA_MIXERS_WINDOW_LINEAR_STATE_H
#define HA_MIXERS_WINDOW_LINEAR_STATE_H

#include "mixers/feature_map.h"
#include "mixers/projections.h"

enum { SLOT_FEATURE_Q = HA_SLOT_OWN, SLOT_FEATURE_K, SLOT_GATE };
enum { OPTION_WINDOW, OPTION_SINKS, OPTION_ROPE_FEATURES, OPTION_FEATURE };

typedef struct {
    int heads, kv_heads, dim, q, kv, width,
        feature; /* q = heads*dim, kv = kv_heads*dim, width = q + 2 kv, feature: width of the map */
    int window, sinks, rope_features, bidirectional;
    ha_feature map;
    float scale;
} ha_window_layout;

/* The layout of a window_linear mixer. */
ha_window_layout ha_window_layout_of(const ha_mixer *mixer);

/* The softmax part: window and sinks. */
static inline ha_attention ha_window_attention(const ha_window_layout *l)
{
    return (ha_attention){.heads = l->heads,
                          .kv_heads = l->kv_heads,
                          .dim = l->dim,
                          .causal = !l->bidirectional,
                          .window = l->window,
                          .sinks = l->sinks,
                          .scale = l->scale};
}

/* The linear part: keys `lag` and more tokens away. */
static inline ha_linear_attention ha_window_rest(const ha_window_layout *l, int lag)
{
    return (ha_linear_attention){.heads = l->heads,
                                 .kv_heads = l->kv_heads,
                                 .features = l->feature,
                                 .dim = l->dim,
                                 .lag = lag,
                                 .bidirectional = l->bidirectional};
}

/* What a pass has computed before it needs the past: rows of the batch. */
typedef struct {
    const float *qkv;            /* [rows, width], rotated */
    const float *query_features; /* [rows, heads, feature] */
    const float *key_features;   /* [rows, kv_heads, feature], zero for sinks */
    float *near;                 /* [rows, q] softmax over window and sinks */
    float *far, *denominators;   /* [rows, q], [rows, heads] linear part over the rest */
    float *log_sum, *largest;    /* [rows, heads] of the softmax */
} ha_window_parts;

/* Its decode state for one sequence. */
ha_state_shape ha_window_state(const ha_mixer *mixer);
/* Fills near, far, denominators, log_sum, largest from the state of each sequence and the batch's
 * rows, and moves the state on. */
ha_status ha_window_continue(const ha_mixer *mixer, const ha_pass *pass, const ha_window_parts *p, ha_state *state);

#endif
