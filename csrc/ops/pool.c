/* Projection along the sequence (Linformer, Wang et al. 2020, arXiv 2006.04768): the rows of a
 * sequence become `slots` rows, each a learned weighted sum of them.
 *
 * Slot s stands for a stretch of the positions, s length / slots to (s + 1) length / slots. A
 * sequence of T rows fills the slots whose stretch begins before T; the last of them, if its
 * stretch is cut, is scaled up as if it were whole. */
#include <string.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { COLUMNS = 64, DEPTH = 256, ROWS = 64 };

static int begin_of(const ha_pool *p, int slot)
{
    return (int)((int64_t)slot * p->length / p->slots);
}

int ha_pool_slots(const ha_pool *p, int rows)
{
    const int64_t n = ((int64_t)rows * p->slots + p->length - 1) / p->length;
    return n < p->slots ? (int)n : p->slots;
}

void ha_pool_offsets(const ha_pool *p, const ha_batch *batch, int32_t *offset)
{
    offset[0] = 0;
    for (int s = 0; s < batch->n_seq; s++)
        offset[s + 1] = offset[s] + ha_pool_slots(p, batch->offset[s + 1] - batch->offset[s]);
}

/* 1, and more for a slot whose stretch the end of the sequence cuts */
static float share_of(const ha_pool *p, int slot, int rows)
{
    const int from = begin_of(p, slot), to = begin_of(p, slot + 1);
    return to <= rows ? 1.0f : (float)(to - from) / (float)(rows - from);
}

ha_status ha_pool_forward(const ha_pool *p, const ha_batch *batch, ha_rows x, float *y, ha_arena *work)
{
    const int d = p->width;
    const float *w = p->weight;
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work);
    const int blocks = (d + COLUMNS - 1) / COLUMNS;
    int32_t *offset;
    HA_PUSH(offset, work, (size_t)batch->n_seq + 1);
    ha_pool_offsets(p, batch, offset);
#pragma omp parallel for schedule(static) collapse(2) num_threads(ha_threads())
    for (int s = 0; s < batch->n_seq; s++)
        for (int b = 0; b < blocks; b++) {
            const int column = b * COLUMNS, n = d - column < COLUMNS ? d - column : COLUMNS;
            const int rows = batch->offset[s + 1] - batch->offset[s], slots = offset[s + 1] - offset[s];
            const float *from = x.at + batch->offset[s] * x.stride + column;
            float *to = y + (ptrdiff_t)offset[s] * d + column;
            for (int j = 0; j < rows; j += DEPTH)
                kernel->gemm(ha_matmul_of(slots, n, rows - j < DEPTH ? rows - j : DEPTH, j > 0),
                             ha_view_rows(ha_rows_of(w + j, p->length)), ha_rows_of(from + j * x.stride, x.stride),
                             ha_rows_to(to, d));
            const float share = share_of(p, slots - 1, rows);
            for (int i = 0; i < n; i++)
                to[(ptrdiff_t)(slots - 1) * d + i] *= share;
        }
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_pool_backward(const ha_pool *p, const ha_batch *batch, ha_rows x, const float *dy, ha_rows_out dx,
                           float *dweight, ha_arena *work)
{
    const int d = p->width;
    const float *w = p->weight;
    const ha_kernels *kernel = ha_kernels_get();
    const size_t mark = ha_arena_mark(work);
    const int tiles = (p->length + ROWS - 1) / ROWS, threads = ha_threads();
    int32_t *offset;
    float *slope, *scratch;
    HA_PUSH(offset, work, (size_t)batch->n_seq + 1);
    ha_pool_offsets(p, batch, offset);
    HA_PUSH(slope, work, (size_t)offset[batch->n_seq] * (size_t)d);
    HA_PUSH(scratch, work, (size_t)threads * (size_t)(ROWS * d));
    for (int s = 0; s < batch->n_seq; s++) {
        const int last = offset[s + 1] - 1, slots = last + 1 - offset[s];
        const float share = share_of(p, slots - 1, batch->offset[s + 1] - batch->offset[s]);
        memcpy(slope + (ptrdiff_t)offset[s] * d, dy + (ptrdiff_t)offset[s] * d, (size_t)(slots * d) * sizeof *slope);
        for (int i = 0; i < d; i++)
            slope[(ptrdiff_t)last * d + i] *= share;
    }
    /* A tile of positions is a task: its columns of dweight add up over the sequences in their
     * order. */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int tile = 0; tile < tiles; tile++) {
        float *turned = scratch + (size_t)ha_thread_index() * (size_t)(ROWS * d);
        const int at = tile * ROWS;
        for (int s = 0; s < batch->n_seq; s++) {
            const int rows = batch->offset[s + 1] - batch->offset[s], slots = offset[s + 1] - offset[s];
            const int n = rows - at < ROWS ? rows - at : ROWS;
            const ptrdiff_t row = batch->offset[s] + at;
            const float *own = slope + (ptrdiff_t)offset[s] * d;
            if (n <= 0)
                continue;
            kernel->gemm(ha_matmul_of(n, d, slots, 0), ha_view_transposed(ha_rows_of(w + at, p->length)),
                         ha_rows_of(own, d), ha_rows_to(dx.at + row * dx.stride, dx.stride));
            if (!dweight)
                continue;
            kernel->transpose(n, d, x.at + row * x.stride, x.stride, turned, ROWS);
            kernel->gemm(ha_matmul_of(slots, n, d, 1), ha_view_rows(ha_rows_of(own, d)), ha_rows_of(turned, ROWS),
                         ha_rows_to(dweight + at, p->length));
        }
    }
    ha_arena_release(work, mark);
    return HA_OK;
}

void ha_pool_start(const ha_pool *p, float *w)
{
    memset(w, 0, (size_t)p->slots * (size_t)p->length * sizeof *w);
    for (int s = 0; s < p->slots; s++)
        for (int from = begin_of(p, s), to = begin_of(p, s + 1), j = from; j < to; j++)
            w[(ptrdiff_t)s * p->length + j] = 1.0f / (float)(to - from);
}
