/* LM head and loss, fused over pieces of PIECE rows. Rows without a target or with weight 0 have no loss; where they are
 * an eighth of all rows or more, they are passed over.
 *
 * Floor, forward and backward of one student: 3 GEMMs of 2 rows*d*vocabulary FLOP (4 with the teacher's). A piece of
 * logits is 4 PIECE*vocabulary bytes (50 MB at 49152), which the row kernels cross in cache-sized rows. */
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

/* The row kernels leave no gradient for a scale of 0: nothing is to be done then but to clear dhidden. */
static float *wanted_gradient(int rows, int d, const row_list *with, float scale, float *dhidden)
{
    if (dhidden && (scale == 0.0f || with->count < rows))
        memset(dhidden, 0, (size_t)rows * (size_t)d * sizeof *dhidden);
    return scale == 0.0f ? NULL : dhidden;
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

static void logits_of(int n, int d, int vocabulary, const float *hidden, ha_head head, float *logits)
{
    const ha_linear linear = ha_linear_of(d, vocabulary, head.weight, head.bias);
    ha_linear_forward(&linear, n, ha_rows_of(hidden, d), 0, ha_rows_to(logits, vocabulary));
}

/* The n rows of dhidden are written in their place, or made in room [n,d] and copied there. */
static void backward(int n, const int *row, int d, int vocabulary, const float *hidden, ha_head head,
                     const float *dlogits, float *room, float *dhidden, ha_head_gradient dhead)
{
    float *to = adjoin(n, row) ? dhidden + (ptrdiff_t)row[0] * d : room;
    const ha_linear linear = ha_linear_of(d, vocabulary, head.weight, head.bias);
    const ha_linear_gradient gradient = {
        .x = ha_rows_to(to, d), .weight = dhead.weight, .bias = head.bias ? dhead.bias : NULL};
    ha_linear_backward(&linear, n, ha_rows_of(hidden, d), ha_rows_of(dlogits, vocabulary), &gradient);
    for (int r = 0; to == room && r < n; r++)
        memcpy(dhidden + (ptrdiff_t)row[r] * d, room + (ptrdiff_t)r * d, (size_t)d * sizeof *room);
}

ha_status ha_head_cross_entropy(int rows, int d, int vocabulary, const float *hidden, ha_head head,
                                const int32_t *target, float scale, double *loss, float *dhidden,
                                ha_head_gradient dhead, const ha_interrupt *check, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(work);
    row_list with;
    float *logits, *room, *droom;
    HA_TRY(rows_to_compute(rows, target, NULL, work, &with));
    const size_t most = (size_t)min(with.count, PIECE);
    HA_PUSH(logits, work, most * (size_t)vocabulary);
    HA_PUSH(room, work, most * (size_t)d);
    HA_PUSH(droom, work, most * (size_t)d);
    dhidden = wanted_gradient(rows, d, &with, scale, dhidden);
    memset(loss, 0, (size_t)rows * sizeof *loss);
    for (int from = 0; from < with.count; from += PIECE) {
        const int n = min(with.count - from, PIECE), *row = with.index + from;
        const float *h = gathered(n, row, d, hidden, room);
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        logits_of(n, d, vocabulary, h, head, logits);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ha_threads())
        for (int r = 0; r < n; r++) {
            float *own = logits + (ptrdiff_t)r * vocabulary;
            if (target[row[r]] >= 0)
                loss[row[r]] = kernel->cross_entropy_row(vocabulary, own, target[row[r]], dhidden ? scale : 0.0f);
            else
                memset(own, 0, (size_t)vocabulary * sizeof *own);
        }
        if (dhidden)
            backward(n, row, d, vocabulary, h, head, logits, droom, dhidden, dhead);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_head_kl(int rows, int d, int vocabulary, const float *teacher_hidden, ha_head teacher_head, int students,
                     const float *const *hidden, ha_head head, float scale, double *const *loss, const int32_t *target,
                     double *nll, const float *weight, float *dhidden, ha_head_gradient dhead,
                     const ha_interrupt *check, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work);
    row_list with;
    float *teacher, *logits, *copy, *room, *droom;
    HA_TRY(rows_to_compute(rows, NULL, weight, work, &with));
    const size_t most = (size_t)min(with.count, PIECE);
    HA_PUSH(teacher, work, most * (size_t)vocabulary);
    HA_PUSH(logits, work, most * (size_t)vocabulary);
    HA_PUSH(copy, work, (size_t)threads * (size_t)vocabulary); /* the row kernel consumes the teacher's row */
    HA_PUSH(room, work, most * (size_t)d);
    HA_PUSH(droom, work, most * (size_t)d);
    dhidden = wanted_gradient(rows, d, &with, scale, dhidden);
    for (int s = 0; s < students; s++)
        memset(loss[s], 0, (size_t)rows * sizeof *loss[s]);
    if (nll)
        memset(nll, 0, (size_t)rows * sizeof *nll);
    for (int from = 0; from < with.count; from += PIECE) {
        const int n = min(with.count - from, PIECE), *index = with.index + from;
        logits_of(n, d, vocabulary, gathered(n, index, d, teacher_hidden, room), teacher_head, teacher);
        for (int s = 0; s < students; s++) {
            const float *h = gathered(n, index, d, hidden[s], room);
            if (ha_interrupted(check))
                return HA_INTERRUPTED;
            logits_of(n, d, vocabulary, h, head, logits);
            int last = s == students - 1;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
            for (int r = 0; r < n; r++) {
                const int i = index[r];
                float *t = teacher + (ptrdiff_t)r * vocabulary;
                if (!last) {
                    float *own = copy + (ptrdiff_t)ha_thread_index() * vocabulary;
                    memcpy(own, t, (size_t)vocabulary * sizeof *t);
                    t = own;
                }
                float *row = logits + (ptrdiff_t)r * vocabulary;
                int32_t next = nll ? target[i] : -1;
                double wanted = next < 0 ? 0.0 : (double)row[next], log_sum;
                float share = !dhidden ? 0.0f : weight ? scale * weight[i] : scale;
                const double distance = kernel->kl_row(vocabulary, row, t, share, &log_sum);
                if (dhidden && share == 0.0f)
                    memset(row, 0, (size_t)vocabulary * sizeof *row);
                if (!has_loss(i, NULL, weight))
                    continue;
                loss[s][i] = distance;
                if (nll)
                    nll[i] = next < 0 ? 0.0 : log_sum - wanted;
            }
            if (dhidden)
                backward(n, index, d, vocabulary, h, head, logits, droom, dhidden, dhead);
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
