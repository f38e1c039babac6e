/* What mixers share: the q, k, v, o projections, their transfer from softmax, and the end of every
 * backward pass. */
#ifndef HA_MIXERS_PROJECTIONS_H
#define HA_MIXERS_PROJECTIONS_H

#include "mixers/mixer.h"

/* q [heads*dim, hidden], k and v [kv_heads*dim, hidden], o [hidden, heads*dim], biases as the
 * config says. `aligns`: trained in step 1. `extra` further joined matrices ({name, rows}) follow
 * v. All of them may be stored in another type, so they are read with ha_projection. */
typedef struct {
    const char *name;
    int rows;
} ha_joined;

/* Adds them in this order to `params` and sets the places in mixer->at. */
ha_status ha_declare_projections(ha_mixer *mixer, const char *prefix, int layer, int kv_heads, int aligns,
                                 const ha_joined *joined, int n_joined, ha_params *params);

/* Copies q, k, v, o and their biases from softmax; with kv_heads = heads each K/V head is repeated
 * for its group. */
void ha_transfer_projections(const ha_mixer *mixer, const ha_mixer *softmax, int kv_heads, float *weights);

/* RoPE on x [rows, heads, dim] as the config says; sign -1 for gradients. */
void ha_rotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float sign, float *x, ptrdiff_t ldx);
/* Undoes ha_rotate on x itself. */
void ha_unrotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float *x, ptrdiff_t ldx);

/* The qk-norm of x = q or k [rows, heads, dim] to y, which may be x, when the config has one;
 * `slot` its weight. */
void ha_qk_norm(const ha_mixer *mixer, const ha_pass *pass, int slot, int heads, const float *x, ptrdiff_t ldx,
                float *y, ptrdiff_t ldy);
/* dy, the gradient of its output, becomes that of x. */
ha_status ha_qk_norm_backward(const ha_mixer *mixer, const ha_pass *pass, int slot, int heads, const float *x,
                              ptrdiff_t ldx, float *dy, ptrdiff_t lddy);

/* Floats that ha_project_in keeps for its backward pass: q and k before their norm. */
size_t ha_project_in_saved(const ha_mixer *mixer, int rows);
/* qkv [rows, heads + 2 kv_heads, dim] = x W^T + bias, q and k through their norm, of mixers that
 * keep keys grouped and join nothing behind them; kept: as above, may be NULL where nothing is
 * saved */
void ha_project_in(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *qkv, float *kept);
/* dx += gradient of <dqkv, qkv> unless NULL, and the gradients of weights and biases; dqkv is
 * overwritten */
ha_status ha_project_in_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *kept,
                                 float *dqkv, float *dx);

/* y [rows, width] -> out += scale * (y Wo^T + bias) */
void ha_project_out(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, float *out);

/* Backward of ha_project_out: dy [rows, width] = scale * dout Wo, weight gradients, and the gate's
 * (see mixer.h). */
void ha_project_out_backward(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, const float *dout,
                             float *dy, double *gate);

#endif
