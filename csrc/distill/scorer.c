/* KL(teacher || hybrid) for one set of gates, for all one-layer changes of it, and its gradient by the gates. */
#include <string.h>

#include "distill/distill.h"

enum { GROUP_ROWS = 2048, SLICE_ROWS = 8192 };

static const ha_model *teacher_of(const ha_scorer *s)
{
    return s->teacher ? s->teacher : s->model;
}

/* Teacher's final hidden states of a batch; the model itself is its own teacher with every gate at 1. */
static ha_status teacher_hidden(const ha_scorer *s, const ha_batch *batch, float **hidden)
{
    const ha_model *t = teacher_of(s);
    const int layers = t->config.num_layers;
    float *ones;
    HA_PUSH(ones, s->arena, (size_t)layers);
    for (int l = 0; l < layers; l++)
        ones[l] = 1.0f;
    HA_PUSH(*hidden, s->arena, (size_t)batch->rows * (size_t)t->config.hidden_size);
    return ha_model_hidden(t, s->teacher ? NULL : ones, batch, NULL, *hidden, s->arena, s->check);
}

/* mean [n_seq] of loss [rows] over each sequence, less `unpredicted` rows at its end (whose loss is 0) */
static void mean_by_sequence(const ha_batch *batch, int unpredicted, const double *loss, double *mean)
{
    for (int i = 0; i < batch->n_seq; i++) {
        double sum = 0.0;
        for (int r = batch->offset[i]; r < batch->offset[i + 1]; r++)
            sum += loss[r];
        mean[i] = sum / (batch->offset[i + 1] - batch->offset[i] - unpredicted);
    }
}

/* KL of each row between the teacher's hidden states and those of `students`, averaged by sequence into
 * mean[i] + first: arrays of the whole window list. nll likewise, unless NULL, for one student. dhidden (one student
 * only): gradient of the sum over rows. */
static ha_status kl_of(const ha_scorer *s, const ha_batch *batch, const float *teacher, int students,
                       const float *const *hidden, double *const *mean, double *nll, int first, float *dhidden)
{
    const ha_model *m = s->model;
    size_t mark = ha_arena_mark(s->arena);
    double **loss, *row_nll = NULL;
    int32_t *target = NULL;
    HA_PUSH(loss, s->arena, (size_t)students);
    for (int i = 0; i < students; i++)
        HA_PUSH(loss[i], s->arena, (size_t)batch->rows);
    if (nll) {
        HA_PUSH(row_nll, s->arena, (size_t)batch->rows);
        HA_PUSH(target, s->arena, (size_t)batch->rows);
        ha_next_tokens(batch, target);
    }
    HA_TRY(ha_head_kl(batch->rows, m->config.hidden_size, m->config.vocab_size, teacher, ha_model_head(teacher_of(s)),
                      students, hidden, ha_model_head(m), 1.0f, loss, target, row_nll, dhidden, NULL, s->check,
                      s->arena));
    for (int i = 0; i < students; i++)
        mean_by_sequence(batch, 0, loss[i], mean[i] + first);
    if (nll)
        mean_by_sequence(batch, 1, row_nll, nll + first);
    ha_arena_release(s->arena, mark);
    return HA_OK;
}

ha_status ha_score_kl(const ha_scorer *s, const ha_windows *w, const float *gates, const float *teacher_hidden_stream,
                      double *kl, double *nll)
{
    const size_t d = (size_t)s->model->config.hidden_size;
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        ha_batch batch;
        float *teacher, *hidden;
        to = ha_windows_group(w, from, GROUP_ROWS);
        HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &batch));
        if (teacher_hidden_stream) {
            HA_PUSH(teacher, s->arena, (size_t)batch.rows * d);
            ha_windows_gather(w, from, to, d, teacher_hidden_stream, teacher);
        } else {
            HA_TRY(teacher_hidden(s, &batch, &teacher));
        }
        HA_PUSH(hidden, s->arena, (size_t)batch.rows * d);
        HA_TRY(ha_model_hidden(s->model, gates, &batch, NULL, hidden, s->arena, s->check));
        HA_TRY(kl_of(s, &batch, teacher, 1, (const float *const[]){hidden}, (double *const[]){kl}, nll, from, NULL));
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}

/* Runs states [from, to) through layer l with one gate, in slices of whole states; states lie [state][rows, hidden]. */
static ha_status run_states(const ha_scorer *s, int l, float gate, const ha_pass *pass, int rows, int n_seq, int from,
                            int to, float *x)
{
    const size_t d = (size_t)s->model->config.hidden_size;
    const int at_once = SLICE_ROWS / rows > 1 ? SLICE_ROWS / rows : 1;
    for (int i = from; i < to; i += at_once) {
        int n = to - i < at_once ? to - i : at_once;
        ha_batch batch = *pass->batch; /* n copies of the windows: a prefix of the pass's own, all copies being equal */
        ha_pass part = *pass;
        if (ha_interrupted(s->check))
            return HA_INTERRUPTED;
        batch.rows = n * rows;
        batch.n_seq = n * n_seq;
        part.batch = &batch;
        HA_TRY(ha_layer_forward(s->model, l, (ha_layer_run){gate, 0}, &part, x + (size_t)i * (size_t)rows * d, NULL,
                                NULL));
    }
    return HA_OK;
}

/* One group of windows. State 0 is the base; when layer l is a candidate, a copy of the base's input to l goes through l
 * with the other gate and joins the states, which from there on go through the same layers side by side. */
static ha_status flip_group(const ha_scorer *s, const ha_windows *w, int from, int to, const float *gates, int n_layers,
                            const int *layers, double *base, double *flipped)
{
    const ha_model *m = s->model;
    const int d = m->config.hidden_size;
    ha_batch one, many;
    ha_pass pass;
    float *x, *hidden, *teacher;
    const float **states;
    double **mean;
    HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &one));
    int copies = SLICE_ROWS / one.rows > 1 ? SLICE_ROWS / one.rows : 1;
    HA_TRY(ha_windows_batch(w, from, to, copies < n_layers + 1 ? copies : n_layers + 1, s->arena, &many));
    const size_t size = (size_t)one.rows * (size_t)d;
    HA_PUSH(x, s->arena, size * (size_t)(n_layers + 1));
    HA_PUSH(states, s->arena, (size_t)n_layers + 1);
    HA_PUSH(mean, s->arena, (size_t)n_layers + 1);
    HA_TRY(teacher_hidden(s, &one, &teacher));
    HA_TRY(ha_pass_begin(m, &many, NULL, s->arena, s->check, &pass));
    ha_embed_forward(one.rows, d, one.token, m->weights + m->embed, x);
    int known = 1; /* states so far */
    for (int l = 0; l < m->config.num_layers; l++) {
        float gate = ha_gate_of(m, gates, l);
        int candidate = known <= n_layers && layers[known - 1] == l, before = known;
        if (candidate) {
            memcpy(x + size * (size_t)known, x, size * sizeof *x);
            HA_TRY(run_states(s, l, 1.0f - gate, &pass, one.rows, one.n_seq, known, known + 1, x));
            known++;
        }
        HA_TRY(run_states(s, l, gate, &pass, one.rows, one.n_seq, 0, before, x));
    }
    HA_PUSH(hidden, s->arena, size * (size_t)known);
    ha_rms_norm_forward(known * one.rows, d, x, d, m->weights + m->final_norm, m->config.norm_eps, hidden, d);
    int skip = base ? 0 : 1;
    for (int i = skip; i < known; i++) {
        states[i - skip] = hidden + size * (size_t)i;
        mean[i - skip] = i == 0 ? base : flipped + (ptrdiff_t)(i - 1) * w->count;
    }
    return kl_of(s, &one, teacher, known - skip, states, mean, NULL, from, NULL);
}

ha_status ha_score_flip(const ha_scorer *s, const ha_windows *w, const float *gates, int n_layers, const int *layers,
                        double *base, double *flipped)
{
    for (int from = 0, to; from < w->count; from = to) {
        size_t mark = ha_arena_mark(s->arena);
        to = ha_windows_group(w, from, GROUP_ROWS / 2);
        HA_TRY(flip_group(s, w, from, to, gates, n_layers, layers, base, flipped));
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
        float *teacher, *dhidden;
        double *dgates;
        to = ha_windows_group(w, from, GROUP_ROWS / 2);
        HA_TRY(ha_windows_batch(w, from, to, 1, s->arena, &batch));
        HA_TRY(teacher_hidden(s, &batch, &teacher));
        HA_TRY(ha_tape_forward(m, gates, 1, 0, &batch, NULL, s->arena, s->check, &tape));
        HA_PUSH(dhidden, s->arena, (size_t)batch.rows * (size_t)m->config.hidden_size);
        HA_PUSH(dgates, s->arena, (size_t)layers * (size_t)batch.n_seq);
        const float *student[1] = {tape.hidden};
        double *mean[1] = {kl};
        HA_TRY(kl_of(s, &batch, teacher, 1, student, mean, NULL, from, dhidden));
        HA_TRY(ha_tape_backward(m, &tape, dhidden, dgates));
        for (int l = 0; l < layers; l++)
            for (int i = 0; i < batch.n_seq; i++)
                gradient[(ptrdiff_t)l * w->count + from + i] =
                    dgates[(ptrdiff_t)l * batch.n_seq + i] / (batch.offset[i + 1] - batch.offset[i]);
        ha_arena_release(s->arena, mark);
    }
    return HA_OK;
}
