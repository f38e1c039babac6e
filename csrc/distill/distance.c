/* How far a student is from its teacher, by what the model is for: KL of the next-token
 * distributions, KL or squared error of a task's logits, or the relative error of the final hidden
 * states of a model without a head. */
#include "distill/distill.h"

ha_distance_kind ha_distance_of(const ha_model *m)
{
    switch (m->config.task.kind) {
    case HA_TASK_CLASSIFY:
    case HA_TASK_SPAN:
        return HA_DISTANCE_TASK_KL;
    case HA_TASK_REGRESS:
        return HA_DISTANCE_TASK_MSE;
    default:
        return m->head == HA_NONE ? HA_DISTANCE_HIDDEN : HA_DISTANCE_KL;
    }
}

const char *ha_distance_name(const ha_model *m)
{
    static const char *const names[] = {[HA_DISTANCE_KL] = "kl",
                                        [HA_DISTANCE_TASK_KL] = "task_kl",
                                        [HA_DISTANCE_TASK_MSE] = "task_mse",
                                        [HA_DISTANCE_HIDDEN] = "hidden"};
    return names[ha_distance_of(m)];
}

int ha_distance_by_token(const ha_model *m)
{
    return m->config.task.kind == HA_TASK_NONE;
}

ha_status ha_distance_weights(const ha_model *m, const ha_windows *w, int from, const ha_batch *batch,
                              const float *stream, ha_arena *arena, float **weight)
{
    const int next = !m->config.bidirectional;
    *weight = NULL;
    if (!stream)
        return HA_OK;
    HA_PUSH(*weight, arena, (size_t)batch->rows);
    for (int i = 0; i < batch->n_seq; i++) {
        const float *own = stream + w->window[2 * (from + i)] + next;
        const int first = batch->offset[i], last = batch->offset[i + 1] - next;
        for (int r = first; r < last; r++)
            (*weight)[r] = own[r - first];
        if (next)
            (*weight)[last] = 0.0f;
    }
    return HA_OK;
}

double ha_distance_total(const ha_model *m, const ha_batch *batch, const float *weight, int s)
{
    double total = 0.0;
    if (!ha_distance_by_token(m))
        return 1.0;
    if (!weight)
        return batch->offset[s + 1] - batch->offset[s];
    for (int r = batch->offset[s]; r < batch->offset[s + 1]; r++)
        total += (double)weight[r];
    return total;
}

void ha_sum_by_sequence(const ha_batch *batch, const float *weight, const double *loss, double *sum)
{
    for (int i = 0; i < batch->n_seq; i++) {
        sum[i] = 0.0;
        for (int r = batch->offset[i]; r < batch->offset[i + 1]; r++)
            sum[i] += weight ? (double)weight[r] * loss[r] : loss[r];
    }
}

/* The same as ha_distance, of models with a task. */
static ha_status task_distance(const ha_comparison *c, double *const *sum, const ha_distance_gradient *gradient)
{
    const ha_model *m = c->student;
    ha_task_run teacher, run;
    HA_TRY(ha_task_forward(c->teacher, c->batch, c->teacher_hidden, c->arena, &teacher));
    for (int i = 0; i < c->students; i++) {
        HA_TRY(ha_task_forward(m, c->batch, c->hidden[i], c->arena, &run));
        HA_TRY(ha_task_distance(m, c->batch, teacher.logits, run.logits, gradient->hidden ? gradient->scale : 0.0f,
                                sum[i], c->arena));
        if (gradient->hidden)
            HA_TRY(ha_task_backward(m, c->batch, &run, run.logits, gradient->hidden, gradient->grads, c->arena));
    }
    return HA_OK;
}

/* The same, of final hidden states: loss [students][rows]. */
static void hidden_distance(const ha_comparison *c, double *const *loss, const ha_distance_gradient *gradient)
{
    for (int i = 0; i < c->students; i++)
        ha_relative_error(c->batch->rows, c->student->config.hidden_size, c->teacher_hidden, c->hidden[i], c->weight,
                          gradient->scale, loss[i], gradient->hidden);
}

/* The same, of next-token distributions: loss [students][rows], and nll and same [rows] unless
 * NULL. */
static ha_status token_distance(const ha_comparison *c, double *const *loss, double *nll, double *same,
                                const ha_distance_gradient *gradient)
{
    const ha_model *m = c->student;
    const ha_linear teacher_head = ha_model_head(c->teacher), head = ha_model_head(m);
    const ha_head_gradient of_head = ha_model_head_gradient(m, gradient->scale, gradient->hidden, gradient->grads);
    int32_t *target = NULL;
    if (nll) {
        HA_PUSH(target, c->arena, (size_t)c->batch->rows);
        ha_next_tokens(c->batch, target);
    }
    const ha_head_students students = {.rows = c->batch->rows,
                                       .students = c->students,
                                       .piece = c->piece,
                                       .teacher_head = &teacher_head,
                                       .head = &head,
                                       .teacher_hidden = c->teacher_hidden,
                                       .hidden = c->hidden,
                                       .weight = c->weight,
                                       .target = target,
                                       .same = same};
    return ha_head_kl(&students, loss, nll, &of_head, c->check, c->arena);
}

ha_status ha_distance(const ha_comparison *c, double *const *sum, double *nll, const ha_distance_gradient *given)
{
    const ha_model *m = c->student;
    const ha_batch *batch = c->batch;
    const ha_distance_gradient gradient = given ? *given : (ha_distance_gradient){.scale = 1.0f};
    size_t mark = ha_arena_mark(c->arena);
    if (nll)
        HA_TRY(ha_model_need_next(m));
    if (c->same && ha_distance_of(m) != HA_DISTANCE_KL)
        return ha_fail(HA_BAD_VALUE, "agreement of a model that is compared by %s, allowed is kl", ha_distance_name(m));
    if (!ha_distance_by_token(m)) {
        HA_TRY(task_distance(c, sum, &gradient));
        ha_arena_release(c->arena, mark);
        return HA_OK;
    }
    double **loss, *row_nll = NULL, *row_same = NULL;
    HA_PUSH(loss, c->arena, (size_t)c->students);
    for (int i = 0; i < c->students; i++)
        HA_PUSH(loss[i], c->arena, (size_t)batch->rows);
    if (nll)
        HA_PUSH(row_nll, c->arena, (size_t)batch->rows);
    if (c->same)
        HA_PUSH(row_same, c->arena, (size_t)batch->rows);
    if (ha_distance_of(m) == HA_DISTANCE_HIDDEN)
        hidden_distance(c, loss, &gradient);
    else
        HA_TRY(token_distance(c, loss, row_nll, row_same, &gradient));
    for (int i = 0; i < c->students; i++)
        ha_sum_by_sequence(batch, c->weight, loss[i], sum[i]);
    if (nll)
        ha_sum_by_sequence(batch, c->weight, row_nll, nll);
    if (c->same)
        ha_sum_by_sequence(batch, c->weight, row_same, c->same);
    ha_arena_release(c->arena, mark);
    return HA_OK;
}
