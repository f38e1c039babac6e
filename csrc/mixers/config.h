/* What the core knows of a model: numbers only. Families and their names live in Python. */
#ifndef HA_MIXERS_CONFIG_H
#define HA_MIXERS_CONFIG_H

#include "ops/ops.h"

/* A head that answers one question about a sequence: its class, its values, or where in it a span starts and ends. */
typedef enum { HA_TASK_NONE, HA_TASK_CLASSIFY, HA_TASK_REGRESS, HA_TASK_SPAN } ha_task_kind;
typedef enum { HA_POOLER_NONE, HA_POOLER_TANH, HA_POOLER_RELU } ha_pooler;

/* logits = classifier(act(pooler(pool(hidden)))), or classifier(hidden) of every token for spans */
typedef struct {
    ha_task_kind kind;
    int labels; /* classes, values, or 2: start and end */
    ha_pool pool;
    ha_pooler pooler; /* a dense layer and its activation, before the classifier */
    int bias;         /* the classifier has one */
} ha_task;

typedef struct {
    int vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size;
    float norm_eps;
    const float *rope_inv_freq; /* [head_dim / 2], any scaling already in it */
    float rope_factor;          /* multiplies cos and sin (YaRN); 1 otherwise */
    int sliding_window;         /* of the softmax layers; 0: none */
    int bidirectional;          /* an encoder: every token sees its whole sequence */
    int attention_bias, output_bias, mlp_bias, tie_embeddings;
    int lm_head; /* 0: hidden states only; a model with a task has none either */
    ha_task task;
} ha_config;

#endif
