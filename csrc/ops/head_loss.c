/* LM head and loss, fused over pieces of PIECE rows.
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

static void logits_of(int n, int d, int vocabulary, const float *hidden, ha_head head, float *logits)
{
    ha_linear_forward(n, d, vocabulary, 1.0f, hidden, d, head.weight, head.bias, 0.0f, logits, vocabulary);
}

static void backward(int n, int d, int vocabulary, const float *hidden, ha_head head, const float *dlogits,
                     float *dhidden, ha_head_gradient dhead)
{
    ha_linear_backward(n, d, vocabulary, 1.0f, hidden, d, head.weight, dlogits, vocabulary, 0.0f, dhidden, d,
                       dhead.weight, head.bias ? dhead.bias : NULL);
}

/* The row kernels leave no gradient for a scale of 0: dhidden is zero then, and nothing else is to be done. */
static float *wanted_gradient(int rows, int d, float scale, float *dhidden)
{
    if (!dhidden || scale != 0.0f)
        return dhidden;
    memset(dhidden, 0, (size_t)rows * (size_t)d * sizeof *dhidden);
    return NULL;
}

ha_status ha_head_cross_entropy(int rows, int d, int vocabulary, const float *hidden, ha_head head,
                                const int32_t *target, float scale, double *loss, float *dhidden,
                                ha_head_gradient dhead, const ha_interrupt *check, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    dhidden = wanted_gradient(rows, d, scale, dhidden);
    size_t mark = ha_arena_mark(work);
    float *logits;
    HA_PUSH(logits, work, (size_t)min(rows, PIECE) * (size_t)vocabulary);
    for (int from = 0; from < rows; from += PIECE) {
        int n = min(rows - from, PIECE);
        const float *h = hidden + (ptrdiff_t)from * d;
        if (ha_interrupted(check))
            return HA_INTERRUPTED;
        logits_of(n, d, vocabulary, h, head, logits);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ha_threads())
        for (int r = 0; r < n; r++) {
            float *row = logits + (ptrdiff_t)r * vocabulary;
            int32_t t = target[from + r];
            loss[from + r] = t < 0 ? 0.0 : kernel->cross_entropy_row(vocabulary, row, t, dhidden ? scale : 0.0f);
            for (int i = 0; t < 0 && i < vocabulary; i++)
                row[i] = 0.0f;
        }
        if (dhidden)
            backward(n, d, vocabulary, h, head, logits, dhidden + (ptrdiff_t)from * d, dhead);
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
    dhidden = wanted_gradient(rows, d, scale, dhidden);
    const int threads = ha_threads();
    size_t mark = ha_arena_mark(work), piece = (size_t)min(rows, PIECE) * (size_t)vocabulary;
    float *teacher, *logits, *copy;
    HA_PUSH(teacher, work, piece);
    HA_PUSH(logits, work, piece);
    HA_PUSH(copy, work, (size_t)threads * (size_t)vocabulary); /* the row kernel consumes the teacher's row */
    for (int from = 0; from < rows; from += PIECE) {
        int n = min(rows - from, PIECE);
        logits_of(n, d, vocabulary, teacher_hidden + (ptrdiff_t)from * d, teacher_head, teacher);
        for (int s = 0; s < students; s++) {
            const float *h = hidden[s] + (ptrdiff_t)from * d;
            if (ha_interrupted(check))
                return HA_INTERRUPTED;
            logits_of(n, d, vocabulary, h, head, logits);
            int last = s == students - 1;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
            for (int r = 0; r < n; r++) {
                float *t = teacher + (ptrdiff_t)r * vocabulary;
                if (!last) {
                    float *own = copy + (ptrdiff_t)ha_thread_index() * vocabulary;
                    memcpy(own, t, (size_t)vocabulary * sizeof *t);
                    t = own;
                }
                float *row = logits + (ptrdiff_t)r * vocabulary;
                int32_t next = nll ? target[from + r] : -1;
                double wanted = next < 0 ? 0.0 : (double)row[next], log_sum;
                float share = !dhidden ? 0.0f : weight ? scale * weight[from + r] : scale;
                loss[s][from + r] = kernel->kl_row(vocabulary, row, t, share, &log_sum);
                if (dhidden && share == 0.0f)
                    memset(row, 0, (size_t)vocabulary * sizeof *row);
                if (nll)
                    nll[from + r] = next < 0 ? 0.0 : log_sum - wanted;
            }
            if (dhidden)
                backward(n, d, vocabulary, h, head, logits, dhidden + (ptrdiff_t)from * d, dhead);
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
