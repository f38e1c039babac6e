/* LM head and loss, fused over pieces of PIECE rows. Rows without a target or with weight 0 have no
 * loss; where they are an eighth of all rows or more, they are passed over.
 *
 * Floor, forward and backward of one student: 3 GEMMs of 2 rows*d*vocabulary FLOP (4 with the
 * teacher's). A piece of logits is 4 PIECE*vocabulary bytes (50 MB at 49152), which the row kernels
 * cross in cache-sized rows. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { PIECE = 256 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* The rows to compute, ascending. */
typedef struct {
    int count, *index;
} row_list;

static int has_loss(int r, const int32_t *target, const float *weight)
{
    return (!target || target[r] >= 0) && (!weight || weight[r] != 0.0f);
}

/* The rows with a loss, or all: a few more cost less than copies. target, weight [rows] or NULL. */
static ha_status rows_to_compute(int rows, const int32_t *target, const float *weight, ha_arena *work, row_list *found)
{
    int wanted = 0;
    for (int r = 0; r < rows; r++)
        wanted += has_loss(r, target, weight);
    const int all = rows - wanted < rows / 8 + 1;
    found->count = 0;
    HA_PUSH(found->index, work, (size_t)rows);
    for (int r = 0; r < rows; r++)
        if (all || has_loss(r, target, weight))
            found->index[found->count++] = r;
    return HA_OK;
}

/* Where gradients go when there is something to be done; hidden NULL: nowhere. The row kernels
 * leave none for a scale of 0: then dhidden [rows, d] is cleared, and rows that are passed over are
 * cleared too. */
static ha_head_gradient wanted_gradient(const ha_linear *head, int rows, const row_list *with,
                                        const ha_head_gradient *gradient)
{
    if (!gradient || !gradient->hidden)
        return (ha_head_gradient){0};
    if (gradient->scale == 0.0f || with->count < rows)
        memset(gradient->hidden, 0, (size_t)rows * (size_t)head->in * sizeof *gradient->hidden);
    return gradient->scale == 0.0f ? (ha_head_gradient){0} : *gradient;
}

static int adjoin(int n, const int *row)
{
    return row[n - 1] - row[0] == n - 1;
}

/* n rows of `from` one behind the other: where they are, or copied to room [n,d] */
static const float *gathered(int n, const int *row, int d, const float *from, float *room)
{
    if (adjoin(n, row))
        return from + (ptrdiff_t)row[0] * d;
    for (int r = 0; r < n; r++)
        memcpy(room + (ptrdiff_t)r * d, from + (ptrdiff_t)row[r] * d, (size_t)d * sizeof *room);
    return room;
}

/* logits [n, vocabulary] of hidden [n, d] */
static void logits_of(const ha_linear *head, int n, const float *hidden, float *logits)
{
    ha_linear_forward(head, n, ha_rows_of(hidden, head->in), 0, ha_rows_to(logits, head->out));
}

/* A piece of rows: n of them, which are rows row [n] of the batch, hidden [n, d]; room [n, d] is
 * scratch. */
typedef struct {
    int n;
    const int *row;
    const float *hidden;
    float *room;
} piece;

/* From dlogits [n, vocabulary]: n rows of the gradient are written in their place, or made in the
 * room and copied there. */
static void backward(const ha_linear *head, const piece *p, const float *dlogits, const ha_head_gradient *gradient)
{
    const int d = head->in;
    float *to = adjoin(p->n, p->row) ? gradient->hidden + (ptrdiff_t)p->row[0] * d : p->room;
    const ha_linear_gradient linear = {
        .x = ha_rows_to(to, d), .weight = gradient->weight, .bias = head->bias ? gradient->bias : NULL};
    ha_linear_backward(head, p->n, ha_rows_of(p->hidden, d), ha_rows_of(dlogits, head->out), &linear);
    for (int r = 0; to == p->room && r < p->n; r++)
        memcpy(gradient->hidden + (ptrdiff_t)p->row[r] * d, p->room + (ptrdiff_t)r * d, (size_t)d * sizeof *to);
}

ha_status ha_head_cross_entropy(const ha_linear *head, int rows, const float *hidden, const int32_t *target,
                                double *loss, const ha_head_gradient *gradient, const ha_interrupt *check,
                                ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int d = head->in, vocabulary = head->out;
    size_t mark = ha_arena_mark(work);
    row_list with;
    float *logits, *room, *droom;
    HA_TRY(rows_to_compute(rows, target, NULL, work, &with));
    const size_t most = (size_t)min(with.count, PIECE);
    HA_PUSH(logits, work, most * (size_t)vocabulary);
    HA_PUSH(room, work, most * (size_t)d);
    HA_PUSH(droom, work, most * (size_t)d);
    const ha_head_gradient wanted = wanted_gradient(head, rows, &with, gradient);
    const float scale = wanted.scale;
    memset(loss, 0, (size_t)rows * sizeof *loss);
    for (int from = 0; from < with.count; from += PIECE) {
        const int n = min(with.count - from, PIECE), *row = with.index + from;
        const piece own = {n, row, gathered(n, row, d, hidden, room), droom};
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        logits_of(head, n, own.hidden, logits);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ha_threads())
        for (int r = 0; r < n; r++) {
            float *of_row = logits + (ptrdiff_t)r * vocabulary;
            const float share = wanted.factor ? scale * wanted.factor[row[r]] : scale;
            if (target[row[r]] >= 0)
                loss[row[r]] = kernel->cross_entropy_row(vocabulary, of_row, target[row[r]], share);
            if (target[row[r]] < 0 || (wanted.hidden && share == 0.0f))
                memset(of_row, 0, (size_t)vocabulary * sizeof *of_row);
        }
        if (wanted.hidden)
            backward(head, &own, logits, &wanted);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}

/* What the pieces of ha_head_kl share. copy [threads, vocabulary]: the row kernel consumes the
 * teacher's row. */
typedef struct {
    const ha_head_students *of;
    ha_head_gradient gradient;
    float *teacher, *logits, *copy;
    double *nll;
} kl_work;

/* The place of the largest number, the first of equals. */
static int likeliest(int n, const float *x)
{
    int best = 0;
    float most = x[0];
    for (int i = 1; i < n; i++)
        if (x[i] > most)
            most = x[best = i];
    return best;
}

/* loss of the rows of a piece for one student, whose logits become their gradients; a teacher's row
 * that is wanted again is copied first. */
static void kl_rows(const kl_work *w, const piece *p, int keep_teacher, double *loss)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_head_students *of = w->of;
    const int vocabulary = of->head->out;
#pragma omp parallel for schedule(dynamic, 4) num_threads(ha_threads())
    for (int r = 0; r < p->n; r++) {
        const int i = p->row[r];
        float *t = w->teacher + (ptrdiff_t)r * vocabulary;
        if (keep_teacher) {
            float *own = w->copy + (ptrdiff_t)ha_thread_index() * vocabulary;
            memcpy(own, t, (size_t)vocabulary * sizeof *t);
            t = own;
        }
        float *row = w->logits + (ptrdiff_t)r * vocabulary;
        int32_t next = w->nll ? of->target[i] : -1;
        double wanted = next < 0 ? 0.0 : (double)row[next], log_sum;
        if (of->same && !keep_teacher && has_loss(i, NULL, of->weight))
            of->same[i] = likeliest(vocabulary, row) == likeliest(vocabulary, t);
        float share = !w->gradient.hidden ? 0.0f : of->weight ? w->gradient.scale * of->weight[i] : w->gradient.scale;
        const double distance = kernel->kl_row(vocabulary, row, t, share, &log_sum);
        if (w->gradient.hidden && share == 0.0f)
            memset(row, 0, (size_t)vocabulary * sizeof *row);
        if (!has_loss(i, NULL, of->weight))
            continue;
        loss[i] = distance;
        if (w->nll)
            w->nll[i] = next < 0 ? 0.0 : log_sum - wanted;
    }
}

ha_status ha_head_kl(const ha_head_students *of, double *const *loss, double *nll, const ha_head_gradient *gradient,
                     const ha_interrupt *check, ha_arena *work)
{
    const int rows = of->rows, d = of->head->in, vocabulary = of->head->out;
    const int together = of->piece ? of->piece : PIECE;
    size_t mark = ha_arena_mark(work);
    row_list with;
    float *room, *droom;
    kl_work w = {.of = of, .nll = nll};
    HA_TRY(rows_to_compute(rows, NULL, of->weight, work, &with));
    const size_t most = (size_t)min(with.count, together);
    HA_PUSH(w.teacher, work, most * (size_t)vocabulary);
    HA_PUSH(w.logits, work, most * (size_t)vocabulary);
    HA_PUSH(w.copy, work, (size_t)ha_threads() * (size_t)vocabulary);
    HA_PUSH(room, work, most * (size_t)d);
    HA_PUSH(droom, work, most * (size_t)d);
    w.gradient = wanted_gradient(of->head, rows, &with, gradient);
    for (int s = 0; s < of->students; s++)
        memset(loss[s], 0, (size_t)rows * sizeof *loss[s]);
    if (nll)
        memset(nll, 0, (size_t)rows * sizeof *nll);
    if (of->same)
        memset(of->same, 0, (size_t)rows * sizeof *of->same);
    for (int from = 0; from < with.count; from += together) {
        const int n = min(with.count - from, together), *row = with.index + from;
        logits_of(of->teacher_head, n, gathered(n, row, d, of->teacher_hidden, room), w.teacher);
        for (int s = 0; s < of->students; s++) {
            const piece own = {n, row, gathered(n, row, d, of->hidden[s], room), droom};
            if (ha_interrupted(check))
                return HA_INTERRUPTED;
            logits_of(of->head, n, own.hidden, w.logits);
            kl_rows(&w, &own, s < of->students - 1, loss[s]);
            if (w.gradient.hidden)
                backward(of->head, &own, w.logits, &w.gradient);
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
