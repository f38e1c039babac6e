/* The output gate of softmax attention where the model has one (ha_config.attention_gate), as in
 * Qwen3.5: what the heads give is multiplied by sigmoid(x W_g^T + b_g), channel by channel, before
 * the output projection. */
#ifndef HA_MIXERS_ATTENTION_GATE_H
#define HA_MIXERS_ATTENTION_GATE_H

#include "mixers/mixer.h"

/* After ha_declare_projections. g_proj.weight [heads*dim, hidden], and a bias where q, k and v have
 * one. */
ha_status ha_gate_declare(ha_mixer *mixer, const char *prefix, int layer, int aligns, ha_params *params);
/* Copies the gate of softmax in the arena `weights`. */
void ha_gate_transfer(const ha_mixer *mixer, const ha_mixer *softmax, float *weights);
/* Floats that a pass keeps for its backward pass: the logits. 0 without a gate. */
size_t ha_gate_saved(const ha_mixer *mixer, int rows);
/* *gated = y sigmoid(logits), both [rows, heads*dim], from the arena; y itself without a gate.
 * logits as sized above. */
ha_status ha_gate_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *y, float *logits,
                          float **gated);
/* The same from logits that are there. */
ha_status ha_gate_again(const ha_mixer *mixer, const ha_pass *pass, float *y, const float *logits, float **gated);
/* dy, the gradient of what ha_gate_forward gave, becomes that of y; dx unless NULL and weights get
 * the gate's part. */
ha_status ha_gate_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *y,
                           const float *logits, float *dy, float *dx);
/* Forward FLOP of a token; 0 without a gate. */
double ha_gate_flops(const ha_mixer *mixer);

#endif
