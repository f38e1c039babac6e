/* The distance of a hybrid from its teacher, the KL unless it has another, for one set of gates,
 * for all one-layer changes of it, and its gradient by the gates; and what step 1 left between the
 * two mixers of each layer. */
#include <string.h>

#include "distill/distill.h"

enum { GROUP_ROWS = 2048, SLICE_ROWS = 8192 };

static const ha_model *teacher_of(const ha_scorer *s)
{
    return s->teacher ? s->teacher : s->model;
}

static void count_passes(const ha_scorer *s, int64_t rows, int layers)
{
    if (s->layer_passes)
        *s->layer_passes += rows * layers;
}

/* Teacher's final hidden states of windows [from, to): given, or computed. The model itself is its
 * own teacher with every gate at 1. */
static ha_status teacher_hidden(const ha_scorer *s, const ha_windows *w, int from, int to, const ha_batch *batch,
                                float **hidden)
{
    const ha_model *t = teacher_of(s);
    const int layers = t->config.num_layers;
    const size_t d = (size_t)t->config.hidden_size;
    float *ones;
    HA_PUSH(ones, s->arena, (size_t)layers);
    for (int l = 0; l < layers; l++)
        ones[l] = 1.0f;
    HA_PUSH(*hidden, s->arena, (size_t)batch->rows * d);
    if (s->teacher_hidden) {
        ha_windows_gather(w, from, to, d, s->teacher_hidden, *hidden);
        return HA_OK;
    }
    count_passes(s, batch->rows, layers);
    return ha_model_hidden(t, s->teacher ? NULL : ones, batch, NULL, *hidden, s->arena, s->check);
}

/* mean [n_seq] of loss [rows] over each sequence: weighted, or plain over all rows less the one at
 * its end, which predicts nothing (its loss is 0). */
static void mean_nll(const ha_batch *batch, const float *weight, double *mean)
{
    for (int i = 0; i < batch->n_seq; i++) {
        double total = batch->offset[i + 1] - batch->offset[i] - 1;
        if (weight)
            total = 0.0;
        for (int r = batch->offset[i]; weight && r < batch->offset[i + 1]; r++)
            total += (double)weight[r];
        mean[i] /= total;
    }
}

/* What students are measured by on a group of windows: their hidden states stand in for the last
 * fields. */
static ha_comparison comparison_of(const ha_scorer *s, const ha_batch *batch, const float *weight, const float *teacher)
{
    return (ha_comparison){.teacher = teacher_of(s),
                           .student = s->model,
                           .batch = batch,
                           .weight = weight,
                           .teacher_hidden = teacher,
                           .check = s->check,
                           .arena = s->arena};
}

/* The distance of each student, averaged by sequence into mean[i] + first: arrays of the whole
 * window list. nll likewise, unless NULL, for one student. dhidden (one student only): gradient of
 * the sum of the terms. */
static ha_status kl_of(const ha_comparison *c, double *const *mean, double *nll, int first, float *dhidden)
{
    const ha_distance_gradient gradient = {1.0f, dhidden, NULL};
    size_t mark = ha_arena_mark(c->arena);
    double **sum;
    HA_PUSH(sum, c->arena, (size_t)c->students);
    for (int i = 0; i < c->students; i++)
        sum[i] = mean[i] + first;
    HA_TRY(ha_distance(c, sum, nll ? nll + first : NULL, &gradient));
    for (int i = 0; i < c->students; i++)
        for (int seq = 0; seq < c->batch->n_seq; seq++)
            sum[i][seq] /= ha_distance_total(c->student, c->batch, c->weight, seq);
    for (int seq = 0; c->same && seq < c->batch->n_seq; seq++)
        c->same[seq] /= ha_distance_total(c->student, c->batch, c->weight, seq);
    if (nll)
        mean_nll(c->batch, c->weight, nll + first);
    ha_arena_release(c->arena, mark);
    return HA_OK;
}

/* -log p(next token) of each student, averaged like kl_of's. */
static ha_status nll_of(const ha_comparison *c, double *const *mean, int first)
{
    const ha_model *m = c->student;
    const ha_batch *batch = c->batch;
    size_t mark = ha_arena_mark(c->arena);
    double *loss;
    int32_t *target;
    HA_TRY(ha_model_need_next(m));
    const ha_linear head = ha_model_head(m);
    HA_PUSH(loss, c->arena, (size_t)batch->rows);
    HA_PUSH(target, c->arena, (size_t)batch->rows);
    ha_next_tokens(batch, target);
    for (int r = 0; c->weight && r < batch->rows; r++)
        if (c->weight[r] == 0.0f)
            target[r] = -1; /* the LM head passes over what does not count */
    for (int i = 0; i < c->students; i++) {
        HA_TRY(ha_head_cross_entropy(&head, batch->rows, c->hidden[i], target, loss, NULL, c->check, c->arena));
        ha_sum_by_sequence(batch, c->weight, loss, mean[i] + first);
        mean_nll(batch, c->weight, mean[i] + first);
    }
    ha_arena_release(c->arena, mark);
    return HA_OK;
}

ha_status ha_score_kl(const ha_scorer *s, const ha_windows *w, const float *gates, double *kl, double *nll)
{
    const size_t d = (size_t)s->model->config.hidden_size;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        ha_batch batch;
        float *teacher, *hidden, *weight;
        to = ha_windows_group(w, from, GROUP_ROWS);
        HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &batch));
        HA_TRY(ha_distance_weights(s->model, w, from, &batch, s->weight, s->arena, &weight));
        HA_TRY(teacher_hidden(s, w, from, to, &batch, &teacher));
        HA_PUSH(hidden, s->arena, (size_t)batch.rows * d);
        count_passes(s, batch.rows, s->model->config.num_layers);
        HA_TRY(ha_model_hidden(s->model, gates, &batch, NULL, hidden, s->arena, s->check));
        ha_comparison c = comparison_of(s, &batch, weight, teacher);
        c.hidden = (const float *const[]){hidden};
        c.students = 1;
        c.same = s->same ? s->same + from : NULL;
        HA_TRY(kl_of(&c, (double *const[]){kl}, nll, from, NULL));
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}

/* Runs states [from, to) of the batch `one` through layer l with one gate, in slices of whole
 * states; states lie [state][rows, hidden] in x. */
static ha_status run_states(const ha_scorer *s, int l, float gate, const ha_pass *pass, const ha_batch *one, int from,
                            int to, float *x)
{
    const size_t d = (size_t)s->model->config.hidden_size;
    const int rows = one->rows;
    const int at_once = SLICE_ROWS / rows > 1 ? SLICE_ROWS / rows : 1;
    for (int i = from; i < to; i += at_once) {
        int n = to - i < at_once ? to - i : at_once;
        ha_batch batch = *pass->batch; /* n copies of the windows: a prefix of the pass's own, all copies being equal */
        ha_pass part = *pass;
        if (ha_interrupted(s->check))
            return HA_INTERRUPTED;
        count_passes(s, (int64_t)n * rows, 1);
        batch.rows = n * rows;
        batch.n_seq = n * one->n_seq;
        part.batch = &batch;
        HA_TRY(ha_layer_forward(s->model, l, (ha_layer_run){gate, 0}, &part, x + (size_t)i * (size_t)rows * d, NULL,
                                NULL));
    }
    return HA_OK;
}

/* Whether every layer of a setting is softmax: then it is the teacher. */
static int all_softmax(const ha_model *m, const float *gates)
{
    int all = 1;
    for (int l = 0; l < m->config.num_layers; l++)
        all = all && (!m->layer[l].softmax.kind || ha_gate_of(m, gates, l) == 1.0f);
    return all;
}

/* One group of windows. State 0 is the base; when layer l is a candidate, a copy of the base's
 * input to l goes through l with the other gate and joins the states, which from there on go
 * through the same layers side by side. */
static ha_status flip_group(const ha_scorer *s, const ha_windows *w, const ha_flips *flips, int from, int to,
                            double *base, double *flipped)
{
    const int n_layers = flips->count, *layers = flips->layer;
    const float *gates = flips->gates;
    const ha_model *m = s->model;
    const int d = m->config.hidden_size;
    ha_batch one, many;
    ha_pass pass;
    float *x, *hidden, *teacher = NULL, *weight;
    const float **states;
    double **mean;
    HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &one));
    int copies = SLICE_ROWS / one.rows > 1 ? SLICE_ROWS / one.rows : 1;
    HA_TRY(ha_windows_batch(w, from, to, copies < n_layers + 1 ? copies : n_layers + 1, s->arena, &many));
    const size_t size = (size_t)one.rows * (size_t)d;
    HA_PUSH(x, s->arena, size * (size_t)(n_layers + 1));
    HA_PUSH(states, s->arena, (size_t)n_layers + 1);
    HA_PUSH(mean, s->arena, (size_t)n_layers + 1);
    HA_TRY(ha_distance_weights(m, w, from, &one, s->weight, s->arena, &weight));
    const int is_teacher = !s->teacher && !s->teacher_hidden && all_softmax(m, gates); /* state 0 then is the teacher */
    if (flips->measure == HA_MEASURE_KL && !is_teacher)
        HA_TRY(teacher_hidden(s, w, from, to, &one, &teacher));
    HA_TRY(ha_pass_begin(m, &many, NULL, s->arena, s->check, &pass));
    ha_pass first = pass;
    first.batch = &one;
    HA_TRY(ha_model_embed(m, &first, x));
    int known = 1; /* states so far */
    for (int l = 0; l < m->config.num_layers; l++) {
        float gate = ha_gate_of(m, gates, l);
        int candidate = known <= n_layers && layers[known - 1] == l, before = known;
        if (candidate) {
            memcpy(x + size * (size_t)known, x, size * sizeof *x);
            HA_TRY(run_states(s, l, 1.0f - gate, &pass, &one, known, known + 1, x));
            known++;
        }
        HA_TRY(run_states(s, l, gate, &pass, &one, 0, before, x));
    }
    HA_PUSH(hidden, s->arena, size * (size_t)known);
    for (int i = 0; i < known; i++)
        HA_TRY(ha_model_output(m, &first, x + size * (size_t)i, hidden + size * (size_t)i));
    int skip = base ? 0 : 1;
    for (int i = skip; i < known; i++) {
        states[i - skip] = hidden + size * (size_t)i;
        mean[i - skip] = i == 0 ? base : flipped + (ptrdiff_t)(i - 1) * w->count;
    }
    ha_comparison c = comparison_of(s, &one, weight, is_teacher ? hidden : teacher);
    c.hidden = states;
    c.students = known - skip;
    return flips->measure == HA_MEASURE_NLL ? nll_of(&c, mean, from) : kl_of(&c, mean, NULL, from, NULL);
}

ha_status ha_score_flip(const ha_scorer *s, const ha_windows *w, const ha_flips *flips, double *base, double *flipped)
{
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        to = ha_windows_group(w, from, GROUP_ROWS / 2);
        HA_TRY(flip_group(s, w, flips, from, to, base, flipped));
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}

ha_status ha_score_gates(const ha_scorer *s, const ha_windows *w, const float *gates, double *kl, double *gradient)
{
    const ha_model *m = s->model;
    const int layers = m->config.num_layers;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        ha_batch batch;
        ha_tape tape;
        float *teacher, *dhidden, *weight;
        double *dgates;
        to = ha_windows_group(w, from, GROUP_ROWS / 2);
        HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &batch));
        HA_TRY(ha_distance_weights(s->model, w, from, &batch, s->weight, s->arena, &weight));
        HA_TRY(teacher_hidden(s, w, from, to, &batch, &teacher));
        count_passes(s, batch.rows, 3 * layers);
        const ha_tape_options both = {.gates = gates, .both = 1};
        HA_TRY(ha_tape_forward(m, &both, &batch, NULL, s->arena, s->check, &tape));
        HA_PUSH(dhidden, s->arena, (size_t)batch.rows * (size_t)m->config.hidden_size);
        HA_PUSH(dgates, s->arena, (size_t)layers * (size_t)batch.n_seq);
        ha_comparison c = comparison_of(s, &batch, weight, teacher);
        c.hidden = (const float *const[]){tape.hidden};
        c.students = 1;
        HA_TRY(kl_of(&c, (double *const[]){kl}, NULL, from, dhidden));
        HA_TRY(ha_tape_backward(m, &tape, dhidden, dgates));
        for (int l = 0; l < layers; l++)
            for (int i = 0; i < batch.n_seq; i++)
                gradient[(ptrdiff_t)l * w->count + from + i] =
                    dgates[(ptrdiff_t)l * batch.n_seq + i] / ha_distance_total(m, &batch, weight, i);
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}

static void mean_over_rows(const ha_batch *batch, const double *loss, double *mean)
{
    ha_sum_by_sequence(batch, NULL, loss, mean);
    for (int i = 0; i < batch->n_seq; i++)
        mean[i] /= batch->offset[i + 1] - batch->offset[i];
}

ha_status ha_score_align(const ha_scorer *s, const ha_windows *w, double *error, double *zero)
{
    const ha_model *m = s->model;
    const int d = m->config.hidden_size;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        ha_batch batch;
        ha_pass pass;
        float *x, *h, *target, *y;
        double *distance;
        to = ha_windows_group(w, from, GROUP_ROWS);
        HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &batch));
        HA_TRY(ha_pass_begin(m, &batch, NULL, s->arena, s->check, &pass));
        const size_t wide = (size_t)batch.rows * (size_t)d;
        HA_PUSH(x, s->arena, wide);
        HA_PUSH(h, s->arena, wide);
        HA_PUSH(target, s->arena, wide);
        HA_PUSH(y, s->arena, wide);
        HA_PUSH(distance, s->arena, (size_t)batch.rows);
        HA_TRY(ha_model_embed(m, &pass, x));
        for (int l = 0; l < m->config.num_layers; l++) {
            const ha_layer *layer = &m->layer[l];
            if (ha_interrupted(s->check))
                return HA_INTERRUPTED;
            count_passes(s, batch.rows, 1);
            if (!layer->softmax.kind) {
                for (int i = from; i < to; i++)
                    error[(ptrdiff_t)l * w->count + i] = zero[(ptrdiff_t)l * w->count + i] = 0.0;
                HA_TRY(ha_layer_forward(m, l, (ha_layer_run){0.0f, 0}, &pass, x, NULL, NULL));
                continue;
            }
            ha_layer_input(m, l, &pass, x, h);
            memset(target, 0, wide * sizeof *target);
            memset(y, 0, wide * sizeof *y);
            HA_TRY(layer->softmax.kind->forward(&layer->softmax, &pass, h, 1.0f, target, NULL, NULL));
            ha_align_loss(batch.rows, d, target, y, 1.0f, distance, NULL);
            mean_over_rows(&batch, distance, zero + (ptrdiff_t)l * w->count + from);
            HA_TRY(layer->linear.kind->forward(&layer->linear, &pass, h, 1.0f, y, NULL, NULL));
            ha_align_loss(batch.rows, d, target, y, 1.0f, distance, NULL);
            mean_over_rows(&batch, distance, error + (ptrdiff_t)l * w->count + from);
            HA_TRY(ha_layer_finish(m, l, &pass, target, x));
        }
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}
