/* The MLP of a layer: gated, down(act(gate(h)) * up(h)), or plain, down(act(up(h))). */
#include "model/parts.h"

int ha_mlp_inner(const ha_config *c)
{
    return c->mlp_plain ? c->intermediate_size : 2 * c->intermediate_size;
}

/* [wide, hidden], wide as ha_mlp_inner says */
static ha_linear up_of(const ha_config *c, const ha_layer *layer, const ha_pass *pass)
{
    return ha_linear_of(c->hidden_size, ha_mlp_inner(c), ha_matrix_of(pass, layer->up),
                        ha_at(pass->weights, layer->up_bias));
}

/* [hidden, intermediate] */
static ha_linear down_of(const ha_config *c, const ha_layer *layer, const ha_pass *pass)
{
    return ha_linear_of(c->intermediate_size, c->hidden_size, ha_matrix_of(pass, layer->down),
                        ha_at(pass->weights, layer->down_bias));
}

ha_status ha_mlp_forward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const float *h, float *inner,
                         float *out)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size;
    const ha_linear up = up_of(c, layer, pass), down = down_of(c, layer, pass);
    const size_t mark = ha_arena_mark(pass->arena);
    float *act;
    HA_PUSH(act, pass->arena, ha_wide(pass->batch, f));
    ha_observe(pass, layer->up, d, h);
    ha_linear_forward(&up, rows, ha_rows_of(h, d), 0, ha_rows_to(inner, up.out));
    if (c->mlp_plain)
        ha_act_forward(c->act, ha_wide(pass->batch, f), inner, act);
    else if (c->act == HA_ACT_NONE)
        ha_swiglu_forward(rows, f, inner, act);
    else
        ha_glu_forward(c->act, rows, f, inner, act);
    ha_observe(pass, layer->down, f, act);
    ha_linear_forward(&down, rows, ha_rows_of(act, f), 1, ha_rows_to(out, d));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_mlp_backward(const ha_model *m, const ha_layer *layer, const ha_pass *pass, const float *h, float *inner,
                          const float *dout, float *dh)
{
    const ha_config *c = &m->config;
    const int rows = pass->batch->rows, d = c->hidden_size, f = c->intermediate_size;
    const ha_linear up = up_of(c, layer, pass), down = down_of(c, layer, pass);
    const size_t mark = ha_arena_mark(pass->arena);
    float *act, *dact;
    HA_PUSH(act, pass->arena, ha_wide(pass->batch, f));
    HA_PUSH(dact, pass->arena, ha_wide(pass->batch, f));
    const ha_linear_gradient of_act = {.x = ha_rows_to(dact, f)};
    const ha_linear_gradient of_down = {.weight = ha_grad_at(pass->grads, layer->down),
                                        .bias = ha_grad_at(pass->grads, layer->down_bias)};
    const ha_linear_gradient of_up = {.x = ha_rows_to(dh, d),
                                      .weight = ha_grad_at(pass->grads, layer->up),
                                      .bias = ha_grad_at(pass->grads, layer->up_bias)};
    ha_linear_backward(&down, rows, ha_rows_of(NULL, f), ha_rows_of(dout, d), &of_act);
    if (c->mlp_plain)
        ha_act_backward(c->act, ha_wide(pass->batch, f), inner, dact, pass->grads ? act : NULL);
    else if (c->act == HA_ACT_NONE)
        ha_swiglu_backward(rows, f, inner, dact, pass->grads ? act : NULL);
    else
        ha_glu_backward(c->act, rows, f, inner, dact, pass->grads ? act : NULL);
    ha_linear_backward(&down, rows, ha_rows_of(act, f), ha_rows_of(dout, d), &of_down);
    ha_linear_backward(&up, rows, ha_rows_of(h, d), ha_rows_of(inner, up.out), &of_up);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
