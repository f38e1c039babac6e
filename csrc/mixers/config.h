/* What the core knows of a model: numbers only. Families and their names live in Python. */
#ifndef HA_MIXERS_CONFIG_H
#define HA_MIXERS_CONFIG_H

#include <stdint.h>

#include "core/activation.h"
#include "ops/ops.h"

typedef enum { HA_NORM_RMS, HA_NORM_LAYER } ha_norm_kind; /* LayerNorms have biases */

/* With M the mixers, F the MLP, N norms:
 *     PRE       y = x + M(N(x)),      z = y + F(N(y))
 *     POST      y = N(x + M(x)),      z = N(y + F(y))
 *     PARALLEL  z = x + M(N(x)) + F(N'(x))
 *     SANDWICH  y = x + N'(M(N(x))),  z = y + N'(F(N(y))) */
typedef enum { HA_BLOCK_PRE, HA_BLOCK_POST, HA_BLOCK_PARALLEL, HA_BLOCK_SANDWICH } ha_block_form;

/* A head that answers one question about a sequence: its class, its values, or where in it a span
 * starts and ends. */
typedef enum { HA_TASK_NONE, HA_TASK_CLASSIFY, HA_TASK_REGRESS, HA_TASK_SPAN } ha_task_kind;

/* logits = classifier(act(pooler(pool(hidden)))), or classifier(hidden) of every token for spans */
typedef struct {
    ha_task_kind kind;
    int labels; /* classes, values, or 2: start and end */
    ha_pool_kind pool;
    ha_act pooler; /* a dense layer and its activation, before the classifier */
    int bias;      /* the classifier has one */
} ha_task;

typedef struct {
    int vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size;
    float norm_eps;
    int rope_dim;               /* channels of a head that RoPE turns; 0: none */
    const float *rope_inv_freq; /* [rope_dim / 2], any scaling already in it */
    float rope_factor;          /* multiplies cos and sin (YaRN); 1 otherwise */
    int sliding_window;         /* of the softmax layers; 0: none */
    /* Local layers, those whose local [num_layers] is not 0, see a window of their own and turn by frequencies
     * of their own [rope_dim / 2], without a factor. NULL: there are none. */
    const uint8_t *local;
    const float *local_inv_freq;
    int local_window;
    int rope_table;    /* which of a pass's tables q and k turn by: 1 in the config that local layers are given */
    int bidirectional; /* an encoder: every token sees its whole sequence */
    int attention_bias, output_bias, mlp_bias;
    int attention_gate; /* softmax layers multiply their output by a sigmoid of x */
    int qk_norm;        /* RMSNorm of each head of q and k, before RoPE */
    ha_norm_kind norm;
    ha_block_form block;
    int mlp_plain;     /* down(act(up(x))) instead of down(act(gate(x)) * up(x)) */
    ha_act act;        /* of the MLP, HA_ACT_NONE: silu of a gated one; and of the head's transform */
    float embed_scale; /* multiplies the embeddings of tokens; 0: nothing does */

    int positions,
        position_offset; /* learned positions, 0: none; position p is row p + offset of [positions + offset, d] */
    int segments;        /* learned embeddings of token types; 0: none */
    int embed_norm, final_norm;             /* a norm after the embeddings, after the last layer */
    int lm_head, tie_embeddings, head_bias; /* logits = hidden W^T + bias, W the embedding when tied */
    int head_transform; /* hidden = N(act(W' h + b')) of the last layer's h (masked language models) */
    ha_task task;       /* a model with one has no LM head, bias or transform */
} ha_config;

#endif
