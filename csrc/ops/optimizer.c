/* Global gradient norm and AdamW over segments of the parameter arena.
 * Floor: AdamW reads p, g, m, v and writes p, g, m, v: 32 bytes a parameter; the norm reads g: 4 bytes. */
#include <math.h>

#include "core/thread.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

enum { BLOCK = 1 << 16 };

typedef struct {
    size_t offset, count;
    int segment;
} block;

/* Cuts the segments into blocks that do not depend on the number of threads. */
static ha_status cut(int n, const ha_segment *segment, block **blocks, int *count, ha_arena *work)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += (segment[i].count + BLOCK - 1) / BLOCK;
    HA_PUSH(*blocks, work, total);
    int at = 0;
    for (int i = 0; i < n; i++)
        for (size_t from = 0; from < segment[i].count; from += BLOCK) {
            size_t left = segment[i].count - from;
            (*blocks)[at++] = (block){segment[i].offset + from, left < BLOCK ? left : BLOCK, i};
        }
    *count = at;
    return HA_OK;
}

ha_status ha_sum_squares(int n, const ha_segment *segment, const float *x, double *out, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(work);
    block *blocks;
    int count;
    double *partial, sum = 0.0;
    HA_TRY(cut(n, segment, &blocks, &count, work));
    HA_PUSH(partial, work, (size_t)count);
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int b = 0; b < count; b++)
        partial[b] = kernel->sum_squares(blocks[b].count, x + blocks[b].offset);
    for (int b = 0; b < count; b++)
        sum += partial[b];
    *out = sum;
    ha_arena_release(work, mark);
    return HA_OK;
}

ha_status ha_adamw(int n, const ha_segment *segment, float *p, float *g, float *m, float *v, float clip, float beta1,
                   float beta2, float eps, int64_t step, ha_arena *work)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(work);
    block *blocks;
    int count;
    HA_TRY(cut(n, segment, &blocks, &count, work));
    float bias1 = (float)(1.0 - pow((double)beta1, (double)step)),
          bias2 = (float)(1.0 - pow((double)beta2, (double)step));
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int b = 0; b < count; b++) {
        const ha_segment *s = segment + blocks[b].segment;
        size_t at = blocks[b].offset;
        kernel->adamw(blocks[b].count, p + at, g + at, m + at, v + at, clip, s->lr, beta1, beta2, eps, s->decay, bias1,
                      bias2);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
