/* Losses on the logits of a task's head: against labels, and against a teacher's logits.
 *
 * Classes are one softmax a sequence. A span is two, of start and of end, over the positions of its
 * sequence; its loss is their mean. Values have the mean squared error. */
#include "distill/distill.h"
#include "kernels/kernels.h"

/* The softmaxes of a task's logits, one after the other: of classes as they lie, of spans starts
 * before ends. */
typedef struct {
    int n;
    const int32_t *offset; /* [n + 1] */
} pieces;

/* The softmaxes of a batch of windows: a class each, or start and end of a span. */
static ha_status pieces_of(const ha_model *m, const ha_batch *batch, ha_arena *arena, pieces *p)
{
    const int span = m->config.task.kind == HA_TASK_SPAN, n = batch->n_seq;
    int32_t *offset;
    p->n = span ? 2 * n : n;
    HA_PUSH(offset, arena, (size_t)p->n + 1);
    for (int i = 0; i <= p->n; i++)
        offset[i] = !span ? i * m->config.task.labels : i < n ? batch->offset[i] : batch->rows + batch->offset[i - n];
    p->offset = offset;
    return HA_OK;
}

/* [rows,2] as [2,rows] */
static ha_status columns(int rows, const float *x, ha_arena *arena, float **out)
{
    HA_PUSH(*out, arena, 2 * (size_t)rows);
    ha_kernels_get()->transpose(rows, 2, x, 2, *out, rows);
    return HA_OK;
}

/* loss [n_seq] of the softmaxes of logits, which become the gradient; `teacher` (used up) or target
 * [n] */
static ha_status softmaxes(const ha_model *m, const ha_batch *batch, float *teacher, const int32_t *target,
                           float *logits, float scale, double *loss, ha_arena *arena)
{
    const int span = m->config.task.kind == HA_TASK_SPAN, n = batch->n_seq, rows = batch->rows;
    float *x = logits, share = span ? 0.5f * scale : scale;
    double *each = loss;
    pieces p;
    HA_TRY(pieces_of(m, batch, arena, &p));
    if (span) {
        HA_PUSH(each, arena, (size_t)p.n);
        HA_TRY(columns(rows, logits, arena, &x));
        if (teacher)
            HA_TRY(columns(rows, teacher, arena, &teacher));
    }
    if (teacher)
        ha_pieces_kl(p.n, p.offset, teacher, x, share, each);
    else
        ha_pieces_cross_entropy(p.n, p.offset, x, target, share, each);
    if (span)
        ha_kernels_get()->transpose(2, rows, x, rows, logits, 2);
    for (int i = 0; span && i < n; i++)
        loss[i] = 0.5 * (each[i] + each[n + i]);
    return HA_OK;
}

ha_status ha_task_loss(const ha_model *m, const ha_batch *batch, const ha_labels *labels, int first, float *logits,
                       float scale, double *loss, ha_arena *arena)
{
    const int n = batch->n_seq, width = m->config.task.labels;
    if (m->config.task.kind == HA_TASK_REGRESS) {
        ha_squared_error(n, width, labels->value + (ptrdiff_t)first * width, logits, scale, loss, logits);
        return HA_OK;
    }
    if (m->config.task.kind == HA_TASK_CLASSIFY)
        return softmaxes(m, batch, NULL, labels->target + first, logits, scale, loss, arena);
    size_t mark = ha_arena_mark(arena);
    int32_t *target;
    HA_PUSH(target, arena, 2 * (size_t)n);
    for (int i = 0; i < n; i++)
        for (int end = 0; end < 2; end++)
            target[end * n + i] = labels->target[2 * (first + i) + end];
    HA_TRY(softmaxes(m, batch, NULL, target, logits, scale, loss, arena));
    ha_arena_release(arena, mark);
    return HA_OK;
}

ha_status ha_task_distance(const ha_model *m, const ha_batch *batch, const float *teacher, float *logits, float scale,
                           double *loss, ha_arena *arena)
{
    const int rows = m->config.task.kind == HA_TASK_SPAN ? batch->rows : batch->n_seq, width = m->config.task.labels;
    size_t mark = ha_arena_mark(arena);
    float *own;
    if (m->config.task.kind == HA_TASK_REGRESS) {
        ha_squared_error(rows, width, teacher, logits, scale, loss, logits);
        return HA_OK;
    }
    HA_PUSH(own, arena, (size_t)rows * (size_t)width);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * width; i++)
        own[i] = teacher[i];
    HA_TRY(softmaxes(m, batch, own, NULL, logits, scale, loss, arena));
    ha_arena_release(arena, mark);
    return HA_OK;
}

ha_status ha_windows_task(const ha_model *m, const ha_windows *w, float *logits, ha_arena *arena,
                          const ha_interrupt *check)
{
    const size_t d = (size_t)m->config.hidden_size, width = (size_t)m->config.task.labels;
    const int span = m->config.task.kind == HA_TASK_SPAN;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(arena);
        ha_batch batch;
        ha_task_run run;
        float *hidden;
        to = ha_windows_group(w, from, 2048);
        HA_TRY(ha_windows_batch(w, from, to, 1, arena, &batch));
        HA_PUSH(hidden, arena, (size_t)batch.rows * d);
        HA_TRY(ha_model_hidden(m, NULL, &batch, NULL, hidden, arena, check));
        HA_TRY(ha_task_forward(m, &batch, hidden, arena, &run));
        if (span)
            ha_windows_scatter(w, from, to, width, run.logits, logits);
        else
            __builtin_memcpy(logits + (size_t)from * width, run.logits, (size_t)run.rows * width * sizeof *logits);
        ha_arena_release(arena, mark);
    }
    return HA_OK;
}
