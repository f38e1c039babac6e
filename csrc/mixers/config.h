/* What the core knows of a model: numbers only. Families and their names live in Python. */
#ifndef HA_MIXERS_CONFIG_H
#define HA_MIXERS_CONFIG_H

typedef struct {
    int vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size;
    float norm_eps;
    const float *rope_inv_freq; /* [head_dim / 2], any scaling already in it */
    float rope_factor;          /* multiplies cos and sin (YaRN); 1 otherwise */
    int sliding_window;         /* of the softmax layers; 0: none */
    int bidirectional;          /* an encoder: every token sees its whole sequence */
    int attention_bias, output_bias, mlp_bias, tie_embeddings;
} ha_config;

#endif
