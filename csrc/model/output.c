/* From the last layer to hidden states and logits: the final norm, the head's transform and the LM
 * head, each where the config has one. */
#include <string.h>

#include "model/parts.h"

/* u [rows, hidden]: the transform's dense layer of y, before its activation */
static void dense(const ha_model *m, const ha_pass *pass, const float *y, float *u)
{
    const int d = m->config.hidden_size;
    const ha_linear transform = ha_linear_of(d, d, ha_matrix_of(pass, m->transform), pass->weights + m->transform_bias);
    ha_linear_forward(&transform, pass->batch->rows, ha_rows_of(y, d), 0, ha_rows_to(u, d));
}

/* y [rows, hidden] = the final norm of x, or x */
static void finish(const ha_model *m, const ha_pass *pass, const float *x, float *y)
{
    if (m->config.final_norm)
        ha_norm_forward(m, m->final_norm, pass, x, y);
    else
        memcpy(y, x, ha_wide(pass->batch, m->config.hidden_size) * sizeof *y);
}

ha_status ha_model_output(const ha_model *m, const ha_pass *pass, const float *x, float *hidden)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    float *y;
    if (!m->config.head_transform) {
        finish(m, pass, x, hidden);
        return HA_OK;
    }
    HA_PUSH(y, pass->arena, n);
    finish(m, pass, x, y);
    dense(m, pass, y, hidden);
    ha_act_forward(m->config.act, n, hidden, hidden);
    ha_norm_forward(m, m->transform_norm, pass, hidden, hidden);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* dhidden becomes the gradient of y, the transform's input. */
static ha_status transform_backward(const ha_model *m, const ha_pass *pass, const float *y, float *dhidden)
{
    const int rows = pass->batch->rows, d = m->config.hidden_size;
    const size_t n = ha_wide(pass->batch, d);
    float *u, *act;
    HA_PUSH(u, pass->arena, n);
    HA_PUSH(act, pass->arena, n);
    dense(m, pass, y, u);
    ha_act_forward(m->config.act, n, u, act);
    HA_TRY(ha_norm_through(m, m->transform_norm, pass, act, dhidden));
    ha_act_backward(m->config.act, n, u, dhidden, NULL);
    const ha_linear transform = ha_linear_of(d, d, ha_matrix_of(pass, m->transform), NULL);
    const ha_linear_gradient gradient = {.x = ha_rows_to(dhidden, d),
                                         .weight = ha_grad_at(pass->grads, m->transform),
                                         .bias = ha_grad_at(pass->grads, m->transform_bias)};
    ha_linear_backward(&transform, rows, ha_rows_of(y, d), ha_rows_of(u, d), &gradient);
    return HA_OK;
}

ha_status ha_model_output_backward(const ha_model *m, const ha_pass *pass, const float *x, float *dhidden, float *dx)
{
    const size_t mark = ha_arena_mark(pass->arena), n = ha_wide(pass->batch, m->config.hidden_size);
    if (m->config.head_transform) {
        float *y;
        HA_PUSH(y, pass->arena, n);
        finish(m, pass, x, y);
        HA_TRY(transform_backward(m, pass, y, dhidden));
    }
    if (m->config.final_norm) {
        ha_copy(n, NULL, dx);
        HA_TRY(ha_norm_backward(m, m->final_norm, pass, x, dhidden, dx));
    } else {
        ha_copy(n, dhidden, dx);
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_model_need_head(const ha_model *m)
{
    if (m->config.lm_head)
        return HA_OK;
    return ha_fail(HA_BAD_VALUE, "the model has no LM head, so no next-token logits: allowed is %s",
                   m->config.task.kind == HA_TASK_NONE ? "hidden()" : "task_logits()");
}

ha_status ha_model_need_next(const ha_model *m)
{
    HA_TRY(ha_model_need_head(m));
    if (!m->config.bidirectional)
        return HA_OK;
    return ha_fail(HA_BAD_VALUE, "the likelihood of the next token is for causal models: a bidirectional one sees it");
}

ha_linear ha_model_head(const ha_model *m)
{
    return ha_linear_of(m->config.hidden_size, m->config.vocab_size, ha_params_matrix(&m->params, m->weights, m->head),
                        ha_at(m->weights, m->head_bias));
}

ha_head_gradient ha_model_head_gradient(const ha_model *m, float scale, float *dhidden, float *grads)
{
    return (ha_head_gradient){scale, dhidden, ha_grad_at(grads, m->head), ha_grad_at(grads, m->head_bias)};
}

void ha_model_logits(const ha_model *m, int n, const float *hidden, float *logits)
{
    const ha_linear head = ha_model_head(m);
    ha_linear_forward(&head, n, ha_rows_of(hidden, head.in), 0, ha_rows_to(logits, head.out));
}
