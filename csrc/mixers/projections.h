/* What mixers share: the q, k, v, o projections, their transfer from softmax, and the end of every backward pass. */
#ifndef HA_MIXERS_PROJECTIONS_H
#define HA_MIXERS_PROJECTIONS_H

#include "mixers/mixer.h"

/* q [heads*dim, hidden], k and v [kv_heads*dim, hidden], o [hidden, heads*dim], biases as the config says. `aligns`:
 * trained in step 1. `extra` further joined matrices ({name, rows}) follow v. All of them may be stored in another type,
 * so they are read with ha_projection. */
typedef struct {
    const char *name;
    int rows;
} ha_joined;

ha_status ha_declare_projections(ha_mixer *mixer, const char *prefix, int layer, int kv_heads, int aligns,
                                 const ha_joined *joined, int n_joined, ha_params *params);

/* Copies q, k, v, o and their biases from softmax; with kv_heads = heads each K/V head is repeated for its group. */
void ha_transfer_projections(const ha_mixer *mixer, const ha_mixer *softmax, int kv_heads, float *weights);

/* Undoes ha_rope on x [rows, heads, dim] itself; a gradient wants ha_rope with sign -1. */
void ha_unrotate(const ha_mixer *mixer, const ha_pass *pass, int heads, float *x, ptrdiff_t ldx);

/* qkv [rows, heads + 2 kv_heads, dim] = x W^T + bias, of mixers that keep keys grouped and join nothing behind them */
void ha_project_in(const ha_mixer *mixer, const ha_pass *pass, const float *x, float *qkv);
/* dx += dqkv W unless NULL, and the gradients of weights and biases */
void ha_project_in_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, const float *dqkv, float *dx);

/* y [rows, width] -> out += scale * (y Wo^T + bias) */
void ha_project_out(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, float *out);

/* Backward of ha_project_out: dy [rows, width] = scale * dout Wo, weight gradients, and the gate's (see mixer.h). */
void ha_project_out_backward(const ha_mixer *mixer, const ha_pass *pass, const float *y, float scale, const float *dout,
                             float *dy, double *gate);

#endif
