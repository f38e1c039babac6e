/* The head of a task: pool, dense layer and activation, classifier; or a classifier of every token
 * for spans. */
#include "model/parts.h"
#include "ops/ops.h"

/* Heads are small and stay float32: they are not marked as matrices that may be stored in another
 * type. */
static ha_status add(ha_model *m, const char *name, int rows, int cols, size_t *at)
{
    const ha_param facts = {.layer = -1, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    return ha_params_add(&m->params, "", name, &facts, at);
}

ha_status ha_task_declare(ha_model *m)
{
    const ha_task *task = &m->config.task;
    const int d = m->config.hidden_size;
    if (task->pooler != HA_ACT_NONE) {
        HA_TRY(add(m, "pooler.weight", d, d, &m->pooler));
        HA_TRY(add(m, "pooler.bias", d, 0, &m->pooler_bias));
    }
    HA_TRY(add(m, "classifier.weight", task->labels, d, &m->classifier));
    return task->bias ? add(m, "classifier.bias", task->labels, 0, &m->classifier_bias) : HA_OK;
}

/* [hidden, hidden] */
static ha_linear pooler_of(const ha_model *m)
{
    const int d = m->config.hidden_size;
    return ha_linear_of(d, d, ha_f32(m->weights + m->pooler), ha_at(m->weights, m->pooler_bias));
}

/* [labels, hidden] */
static ha_linear classifier_of(const ha_model *m)
{
    return ha_linear_of(m->config.hidden_size, m->config.task.labels, ha_f32(m->weights + m->classifier),
                        ha_at(m->weights, m->classifier_bias));
}

ha_status ha_task_forward(const ha_model *m, const ha_batch *batch, const float *hidden, ha_arena *arena,
                          ha_task_run *run)
{
    const ha_task *task = &m->config.task;
    const int d = m->config.hidden_size, rows = task->kind == HA_TASK_SPAN ? batch->rows : batch->n_seq;
    const size_t wide = (size_t)rows * (size_t)d;
    *run = (ha_task_run){.rows = rows, .input = hidden};
    if (task->kind != HA_TASK_SPAN) {
        float *pooled;
        HA_PUSH(pooled, arena, wide);
        ha_pool_sequences(task->pool, batch, d, hidden, pooled);
        run->input = pooled;
    }
    if (m->pooler != HA_NONE) {
        HA_PUSH(run->dense, arena, wide);
        HA_PUSH(run->act, arena, wide);
        const ha_linear pooler = pooler_of(m);
        ha_linear_forward(&pooler, rows, ha_rows_of(run->input, d), 0, ha_rows_to(run->dense, d));
        ha_act_forward(task->pooler, wide, run->dense, run->act);
    }
    HA_PUSH(run->logits, arena, (size_t)rows * (size_t)task->labels);
    const ha_linear classifier = classifier_of(m);
    ha_linear_forward(&classifier, rows, ha_rows_of(run->act ? run->act : run->input, d), 0,
                      ha_rows_to(run->logits, task->labels));
    return HA_OK;
}

ha_status ha_task_backward(const ha_model *m, const ha_batch *batch, const ha_task_run *run, const float *dlogits,
                           float *dhidden, float *grads, ha_arena *arena)
{
    const ha_task *task = &m->config.task;
    const int d = m->config.hidden_size, n = task->labels;
    size_t mark = ha_arena_mark(arena);
    float *dinput = dhidden, *dact;
    if (task->kind != HA_TASK_SPAN)
        HA_PUSH(dinput, arena, (size_t)run->rows * (size_t)d);
    dact = dinput;
    if (run->act)
        HA_PUSH(dact, arena, (size_t)run->rows * (size_t)d);
    const ha_linear classifier = classifier_of(m);
    const ha_linear_gradient gradient = {.x = ha_rows_to(dact, d),
                                         .weight = ha_grad_at(grads, m->classifier),
                                         .bias = ha_grad_at(grads, m->classifier_bias)};
    ha_linear_backward(&classifier, run->rows, ha_rows_of(run->act ? run->act : run->input, d), ha_rows_of(dlogits, n),
                       &gradient);
    if (run->act) {
        ha_act_backward(task->pooler, (size_t)run->rows * (size_t)d, run->dense, dact, NULL);
        const ha_linear pooler = pooler_of(m);
        const ha_linear_gradient of_pooler = {.x = ha_rows_to(dinput, d),
                                              .weight = ha_grad_at(grads, m->pooler),
                                              .bias = ha_grad_at(grads, m->pooler_bias)};
        ha_linear_backward(&pooler, run->rows, ha_rows_of(run->input, d), ha_rows_of(run->dense, d), &of_pooler);
    }
    if (task->kind != HA_TASK_SPAN)
        ha_pool_sequences_backward(task->pool, batch, d, dinput, dhidden);
    ha_arena_release(arena, mark);
    return HA_OK;
}
