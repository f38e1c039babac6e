/* Pieces that the files of the model share. */
#ifndef HA_MODEL_PARTS_H
#define HA_MODEL_PARTS_H

#include "model/model.h"

static inline size_t ha_wide(const ha_batch *batch, int columns)
{
    return (size_t)batch->rows * (size_t)columns;
}

static inline ha_matrix ha_matrix_of(const ha_pass *pass, size_t offset)
{
    return ha_params_matrix(pass->params, pass->weights, offset);
}

/* What lies at an offset of the weights or of the gradients, or NULL. */
static inline const float *ha_at(const float *arena, size_t offset)
{
    return offset == HA_NONE ? NULL : arena + offset;
}

static inline float *ha_grad_at(float *grads, size_t offset)
{
    return offset == HA_NONE || !grads ? NULL : grads + offset;
}

/* norm.c: to = from [n], or 0 without one, shared out: a serial pass between two products costs the
 * more, the more threads they use */
void ha_copy(size_t n, const float *from, float *to);
/* y [rows, hidden] = the model's kind of norm of x, which y may be */
void ha_norm_forward(const ha_model *model, ha_norm norm, const ha_pass *pass, const float *x, float *y);
/* dx += gradient of its input x, from that of its output */
ha_status ha_norm_backward(const ha_model *model, ha_norm norm, const ha_pass *pass, const float *x, const float *dy,
                           float *dx);
/* The same in place: dx, the gradient of the output, becomes that of x. */
ha_status ha_norm_through(const ha_model *model, ha_norm norm, const ha_pass *pass, const float *x, float *dx);

/* mlp.c: floats of `inner` a row, kept for the backward pass */
int ha_mlp_inner(const ha_config *config);
/* out += mlp(h); h may be out. inner [rows, ha_mlp_inner] */
ha_status ha_mlp_forward(const ha_model *model, const ha_layer *layer, const ha_pass *pass, const float *h,
                         float *inner, float *out);
/* dh = gradient of h from dout; h is looked at for weight gradients only, inner is overwritten */
ha_status ha_mlp_backward(const ha_model *model, const ha_layer *layer, const ha_pass *pass, const float *h,
                          float *inner, const float *dout, float *dh);

#endif
