/* The MLP of a layer: SwiGLU, down(silu(gate(h)) * up(h)), or plain, down(act(up(h))). */
#include "model/parts.h"

int ha_mlp_inner(const ha_config *c)
{
    return c->mlp_plain ? c->intermediate_size : 2 * c->intermediate_size;
}

ha_status ha_mlp_forward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const float *h, float *inner,
                         float *out)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size, wide = ha_mlp_inner(c);
    const size_t mark = ha_arena_mark(pass->arena);
    float *act;
    HA_PUSH(act, pass->arena, ha_wide(pass->batch, f));
    ha_observe(pass, layer->up, d, h);
    ha_linear_forward(rows, d, wide, 1.0f, h, d, ha_matrix_of(pass, layer->up), ha_at(pass->weights, layer->up_bias),
                      0.0f, inner, wide);
    if (c->mlp_plain)
        ha_act_forward(c->act, ha_wide(pass->batch, f), inner, act);
    else
        ha_swiglu_forward(rows, f, inner, act);
    ha_observe(pass, layer->down, f, act);
    ha_linear_forward(rows, f, d, 1.0f, act, f, ha_matrix_of(pass, layer->down), ha_at(pass->weights, layer->down_bias),
                      1.0f, out, d);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_mlp_backward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const float *h, float *inner,
                          const float *dout, float *dh)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size, wide = ha_mlp_inner(c);
    const size_t mark = ha_arena_mark(pass->arena);
    float *act, *dact;
    HA_PUSH(act, pass->arena, ha_wide(pass->batch, f));
    HA_PUSH(dact, pass->arena, ha_wide(pass->batch, f));
    ha_linear_backward(rows, f, d, 1.0f, NULL, f, ha_matrix_of(pass, layer->down), dout, d, 0.0f, dact, f, NULL, NULL);
    if (c->mlp_plain)
        ha_act_backward(c->act, ha_wide(pass->batch, f), inner, dact, pass->grads ? act : NULL);
    else
        ha_swiglu_backward(rows, f, inner, dact, pass->grads ? act : NULL);
    if (pass->grads)
        ha_linear_backward(rows, f, d, 1.0f, act, f, ha_f32(NULL), dout, d, 0.0f, NULL, f,
                           ha_grad_at(pass->grads, layer->down), ha_grad_at(pass->grads, layer->down_bias));
    ha_linear_backward(rows, d, wide, 1.0f, h, d, ha_matrix_of(pass, layer->up), inner, wide, 0.0f, dh, d,
                       ha_grad_at(pass->grads, layer->up), ha_grad_at(pass->grads, layer->up_bias));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
