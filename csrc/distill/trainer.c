/* The training loop's one step: gradients over micro-batches, clipping, AdamW. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "distill/trainer.h"

enum { MICRO_ROWS = 512 }; /* a matrix product of fewer rows is far from the machine's speed */

static ha_status need_float32(const ha_params *params, int i)
{
    const ha_dtype type = ha_params_dtype(params, i);
    return type == HA_F32
               ? HA_OK
               : ha_fail(HA_BAD_VALUE, "%s is stored as %s and cannot be trained: allowed is float32, see astype",
                         params->list[i].name, ha_dtype_name(type));
}

static ha_status set_up(ha_trainer *t, const uint8_t *train_layer)
{
    const ha_params *params = &t->student->params;
    const int layers = t->student->config.num_layers;
    t->train_layer = calloc((size_t)layers, 1);
    t->trains = calloc((size_t)params->count, 1);
    t->segment = calloc((size_t)params->count, sizeof *t->segment);
    t->segment_param = calloc((size_t)params->count, sizeof *t->segment_param);
    if (!t->train_layer || !t->trains || !t->segment || !t->segment_param)
        return ha_fail(HA_NO_MEMORY, "out of memory for a trainer");
    for (int l = 0; l < layers; l++) {
        const ha_layer *layer = &t->student->layer[l];
        t->train_layer[l] = t->options.stage == HA_STAGE_ALIGN && layer->softmax.kind && layer->linear.kind &&
                            (!train_layer || train_layer[l]);
    }
    for (int i = 0; i < params->count; i++) {
        const ha_param *p = &params->list[i];
        if (p->group == HA_GROUP_FIXED)
            continue;
        if (t->options.stage == HA_STAGE_ALIGN && !(p->aligns && t->train_layer[p->layer]))
            continue;
        HA_TRY(need_float32(params, i));
        t->trains[i] = 1;
        t->segment_param[t->segments] = i;
        t->segment[t->segments++] =
            (ha_segment){.offset = p->offset, .count = p->count, .decay = p->ndim > 1 ? t->options.weight_decay : 0.0f};
    }
    t->m = ha_block_alloc(ha_dtype_bytes(t->options.moments, params->total));
    t->v = ha_block_alloc(ha_dtype_bytes(t->options.moments, params->total));
    return t->m && t->v ? ha_model_need_grads(t->student) : HA_NO_MEMORY;
}

ha_status ha_trainer_new(ha_model *student, const ha_model *teacher, const ha_train_options *options,
                         const uint8_t *train_layer, ha_trainer **out)
{
    if (options->stage == HA_STAGE_DISTILL && !teacher)
        return ha_fail(HA_BAD_VALUE, "stage distill needs a teacher");
    ha_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return ha_fail(HA_NO_MEMORY, "out of memory for a trainer");
    t->student = student;
    t->teacher = teacher;
    t->options = *options;
    ha_status status = set_up(t, train_layer);
    if (status != HA_OK) {
        ha_trainer_free(t);
        return status;
    }
    *out = t;
    return HA_OK;
}

void ha_trainer_free(ha_trainer *t)
{
    if (!t)
        return;
    const size_t bytes = ha_dtype_bytes(t->options.moments, t->student->params.total);
    ha_block_free(t->m, bytes);
    ha_block_free(t->v, bytes);
    free(t->train_layer);
    free(t->trains);
    free(t->segment);
    free(t->segment_param);
    free(t);
}

/* What a step works on, and the factor of each term of its loss. */
typedef struct {
    const ha_windows *w;
    ha_train_data given;
    float scale;
    ha_arena *arena;
    const ha_interrupt *check;
    atomic_llong *finished; /* for the batch that is the last to add to the gradients, else NULL */
} work;

/* The teacher's hidden states [rows, hidden] of windows [from, to): given, or computed. */
static ha_status teacher_rows(const ha_trainer *t, const work *s, int from, int to, const ha_batch *batch,
                              float *hidden)
{
    const float *given = s->given.teacher_hidden;
    if (!given)
        return ha_model_hidden(t->teacher, NULL, batch, NULL, hidden, s->arena, s->check);
    ha_windows_gather(s->w, from, to, (size_t)t->student->config.hidden_size, given, hidden);
    return HA_OK;
}

/* The student's forward pass with the gates that it has. */
static ha_status student_forward(const ha_trainer *t, const work *s, const ha_batch *batch, ha_tape *tape)
{
    const ha_tape_options options = {.recompute = t->options.recompute, .finished = s->finished};
    return ha_tape_forward(t->student, &options, batch, t->student->grads, s->arena, s->check, tape);
}

/* sum [n_seq] of the distances of windows [from, to), and their gradient dhidden [rows, hidden] */
static ha_status distill_batch(const ha_trainer *t, const work *s, int from, int to, const ha_batch *batch,
                               ha_tape *tape, float *dhidden, double *sum)
{
    ha_model *m = t->student;
    float *target, *weight;
    HA_PUSH(target, s->arena, (size_t)batch->rows * (size_t)m->config.hidden_size);
    HA_TRY(teacher_rows(t, s, from, to, batch, target));
    HA_TRY(ha_distance_weights(m, s->w, from, batch, s->given.weight, s->arena, &weight));
    HA_TRY(student_forward(t, s, batch, tape));
    const ha_comparison c = {.teacher = t->teacher,
                             .student = m,
                             .batch = batch,
                             .weight = weight,
                             .teacher_hidden = target,
                             .hidden = (const float *const[]){tape->hidden},
                             .students = 1,
                             .piece = t->options.piece,
                             .check = s->check,
                             .arena = s->arena};
    const ha_distance_gradient gradient = {s->scale, dhidden, m->grads};
    return ha_distance(&c, (double *const[]){sum}, NULL, &gradient);
}

/* The same of the losses on the task's labels, or on the next tokens that count. */
static ha_status finetune_batch(const ha_trainer *t, const work *s, int from, const ha_batch *batch, ha_tape *tape,
                                float *dhidden, double *sum)
{
    ha_model *m = t->student;
    HA_TRY(student_forward(t, s, batch, tape));
    if (m->config.task.kind != HA_TASK_NONE) {
        ha_task_run run;
        HA_TRY(ha_task_forward(m, batch, tape->hidden, s->arena, &run));
        HA_TRY(ha_task_loss(m, batch, &s->given.labels, from, run.logits, s->scale, sum, s->arena));
        return ha_task_backward(m, batch, &run, run.logits, dhidden, m->grads, s->arena);
    }
    const ha_linear head = ha_model_head(m);
    ha_head_gradient gradient = ha_model_head_gradient(m, s->scale, dhidden, m->grads);
    double *loss;
    float *weight;
    int32_t *target;
    HA_PUSH(loss, s->arena, (size_t)batch->rows);
    HA_PUSH(target, s->arena, (size_t)batch->rows);
    HA_TRY(ha_distance_weights(m, s->w, from, batch, s->given.weight, s->arena, &weight));
    gradient.factor = weight;
    ha_next_tokens(batch, target);
    for (int r = 0; weight && r < batch->rows; r++)
        if (weight[r] == 0.0f)
            target[r] = -1; /* the LM head passes over what does not count */
    HA_TRY(ha_head_cross_entropy(&head, batch->rows, tape->hidden, target, loss, &gradient, s->check, s->arena));
    ha_sum_by_sequence(batch, weight, loss, sum);
    return HA_OK;
}

/* loss += the sum of the terms of windows [from, to), whose gradients are added up */
static ha_status outputs_batch(const ha_trainer *t, const work *s, int from, int to, const ha_batch *batch,
                               double *loss)
{
    float *dhidden;
    double *sum;
    ha_tape tape;
    HA_PUSH(dhidden, s->arena, (size_t)batch->rows * (size_t)t->student->config.hidden_size);
    HA_PUSH(sum, s->arena, (size_t)batch->n_seq);
    if (t->options.stage == HA_STAGE_DISTILL)
        HA_TRY(distill_batch(t, s, from, to, batch, &tape, dhidden, sum));
    else
        HA_TRY(finetune_batch(t, s, from, batch, &tape, dhidden, sum));
    for (int i = 0; i < batch->n_seq; i++)
        *loss += sum[i];
    return ha_tape_backward(t->student, &tape, dhidden, NULL);
}

/* What the loss is divided by: tokens, predicted tokens, weights, or sequences. */
static double terms_of(const ha_trainer *t, const ha_windows *w, const float *weight)
{
    const ha_model *m = t->student;
    const int finetune = t->options.stage == HA_STAGE_FINETUNE, next = !m->config.bidirectional;
    double terms = 0.0;
    if (t->options.stage != HA_STAGE_ALIGN && m->config.task.kind != HA_TASK_NONE)
        return w->count;
    for (int i = 0; i < w->count; i++) {
        const int64_t start = w->window[2 * i], stop = w->window[2 * i + 1];
        if (!weight)
            terms += (double)(stop - start - finetune);
        for (int64_t r = start + next; weight && r < stop; r++)
            terms += (double)weight[r];
    }
    return terms;
}

/* The first rows of a stream that belong to windows after those of a batch. */
static ha_align_part next_rows(const ha_align_part *part, const ha_batch *batch, size_t d)
{
    const size_t used = (size_t)batch->rows * d;
    return (ha_align_part){part->first, part->stop, part->in ? part->in + used : NULL,
                           part->out ? part->out + used : NULL};
}

ha_status ha_trainer_accumulate(ha_trainer *t, const ha_share *share, const ha_train_data *given,
                                const ha_align_part *part, ha_arena *arena, const ha_interrupt *check, double *loss)
{
    const int align = t->options.stage == HA_STAGE_ALIGN, layers = t->student->config.num_layers;
    const int n_losses = align ? layers : 1;
    const ha_train_data data = given ? *given : (ha_train_data){0};
    const double terms = terms_of(t, share->windows, data.weight);
    ha_align_part rest = part ? *part : (ha_align_part){0, layers, NULL, NULL};
    ha_windows w = *share->windows;
    w.count = share->stop;
    work s = {&w, data, 1.0f / (float)terms, arena, check, NULL};
    for (int i = 0; i < n_losses; i++)
        loss[i] = 0.0;
    for (int from = share->first, to; from < w.count; from = to) {
        const int micro = t->options.micro_batch;
        size_t mark = ha_arena_mark(arena);
        to = micro == 0 ? ha_windows_group(&w, from, MICRO_ROWS) : micro < w.count - from ? from + micro : w.count;
        ha_batch batch;
        s.finished = to == w.count ? &t->finished : NULL;
        HA_TRY(ha_windows_batch(&w, from, to, 1, arena, &batch));
        if (align)
            HA_TRY(ha_align_batch(t->student, t->train_layer, &rest, &batch, s.scale, arena, check, loss));
        else
            HA_TRY(outputs_batch(t, &s, from, to, &batch, loss));
        rest = next_rows(&rest, &batch, (size_t)t->student->config.hidden_size);
        ha_arena_release(arena, mark);
    }
    for (int i = 0; i < n_losses; i++) {
        loss[i] /= terms;
        if (!isfinite(loss[i]))
            return ha_fail(HA_BAD_VALUE,
                           "the loss at step %lld is not finite: lower the learning rate or check the weights",
                           (long long)t->steps + 1);
    }
    return HA_OK;
}

float ha_trainer_clip(const ha_trainer *t, double norm)
{
    double clip = (double)t->options.clip;
    return clip > 0.0 && norm > clip ? (float)(clip / (norm + 1e-6)) : 1.0f;
}

/* The end of the run of segments from `from` on that are clipped together: everything, or one layer
 * when aligning. */
static int group_end(const ha_trainer *t, int from)
{
    const ha_param *list = t->student->params.list;
    int to = t->segments;
    if (t->options.stage == HA_STAGE_ALIGN)
        for (to = from + 1; to < t->segments && list[t->segment_param[to]].layer == list[t->segment_param[from]].layer;)
            to++;
    return to;
}

/* Whether segment i is of a layer that somebody else aligns. */
static int elsewhere(const ha_trainer *t, const ha_align_part *part, int i)
{
    const int layer = t->student->params.list[t->segment_param[i]].layer;
    return part && (layer < part->first || layer >= part->stop);
}

/* All norms are known to be finite before the first weight changes. */
ha_status ha_trainer_finish(ha_trainer *t, const ha_align_part *part, const float lr[2], ha_arena *arena,
                            double *grad_norm)
{
    ha_model *m = t->student;
    const ha_train_options *o = &t->options;
    double *norm, total = 0.0;
    HA_PUSH(norm, arena, (size_t)t->segments);
    for (int from = 0; from < t->segments; from = group_end(t, from)) {
        double squares;
        if (elsewhere(t, part, from))
            continue;
        HA_TRY(ha_sum_squares(group_end(t, from) - from, t->segment + from, m->grads, &squares, arena));
        if (!isfinite(squares))
            return ha_fail(HA_BAD_VALUE, "the gradient at step %lld is not finite: lower the learning rate",
                           (long long)t->steps + 1);
        norm[from] = sqrt(squares);
        total += squares;
    }
    for (int i = 0; i < t->segments; i++)
        t->segment[i].lr = lr[m->params.list[t->segment_param[i]].group];
    const ha_adamw_arenas at = {m->weights, m->grads, t->m, t->v, o->moments};
    for (int from = 0; from < t->segments; from = group_end(t, from)) {
        const ha_adamw_options step = {ha_trainer_clip(t, norm[from]), o->beta1, o->beta2, o->eps, t->steps + 1};
        if (!elsewhere(t, part, from))
            HA_TRY(ha_adamw(&step, group_end(t, from) - from, t->segment + from, &at, arena));
    }
    *grad_norm = sqrt(total);
    t->steps++;
    return HA_OK;
}

static ha_status step(ha_trainer *t, const ha_windows *w, const float lr[2], const ha_train_data *given,
                      ha_arena *arena, const ha_interrupt *check, double *loss, double *grad_norm)
{
    const ha_share all = {w, 0, w->count};
    HA_TRY(ha_trainer_accumulate(t, &all, given, NULL, arena, check, loss));
    return ha_trainer_finish(t, NULL, lr, arena, grad_norm);
}

ha_status ha_trainer_check(const ha_trainer *t)
{
    for (int i = 0; i < t->segments; i++) /* a matrix may have been stored since the trainer was made */
        HA_TRY(need_float32(&t->student->params, t->segment_param[i]));
    return HA_OK;
}

void ha_trainer_drop(ha_trainer *t)
{
    for (int i = 0; i < t->segments; i++)
        memset(t->student->grads + t->segment[i].offset, 0, t->segment[i].count * sizeof(float));
}

ha_status ha_trainer_step(ha_trainer *t, const ha_windows *w, const float lr[2], const ha_train_data *given,
                          ha_arena *arena, const ha_interrupt *check, double *loss, double *grad_norm)
{
    HA_TRY(ha_trainer_check(t));
    size_t mark = ha_arena_mark(arena);
    ha_status status = step(t, w, lr, given, arena, check, loss, grad_norm);
    ha_arena_release(arena, mark);
    if (status != HA_OK)
        ha_trainer_drop(t);
    return status;
}
