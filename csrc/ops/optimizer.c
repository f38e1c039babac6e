/* Global gradient norm and AdamW over segments of the parameter arena. Floor: AdamW reads p, g, m,
 * v and writes p, g, m, v: 32 bytes a parameter, 24 with moments in bfloat16; the norm reads g: 4
 * bytes. */
#include <math.h>

#include "core/rng.h"
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

/* The key of a step's noise: whole numbers that follow each other give keys that do not. */
static uint32_t noise_of(int64_t step)
{
    ha_rng rng = ha_rng_seed((uint64_t)step);
    return (uint32_t)(ha_rng_next(&rng) >> 32);
}

ha_status ha_adamw(const ha_adamw_options *options, int segments, const ha_segment *segment, const ha_adamw_arenas *at,
                   ha_arena *work)
{
    const double step = (double)options->step;
    const int narrow = at->moments == HA_BF16;
    const size_t item = ha_dtype_size(at->moments);
    size_t mark = ha_arena_mark(work);
    block *blocks;
    int count;
    HA_TRY(cut(segments, segment, &blocks, &count, work));
    const ha_adamw_step whole = {.clip = options->clip,
                                 .beta1 = options->beta1,
                                 .beta2 = options->beta2,
                                 .eps = options->eps,
                                 .bias1 = (float)(1.0 - pow((double)options->beta1, step)),
                                 .bias2 = (float)(1.0 - pow((double)options->beta2, step)),
                                 .noise = noise_of(options->step)};
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int b = 0; b < count; b++) {
        const size_t from = blocks[b].offset;
        ha_adamw_step own = whole;
        own.rate = segment[blocks[b].segment].lr;
        own.decay = segment[blocks[b].segment].decay;
        ha_kernels_get()->adamw[narrow](&own, blocks[b].count, from, at->weights + from, at->gradients + from,
                                        (char *)at->mean + from * item, (char *)at->square + from * item);
    }
    ha_arena_release(work, mark);
    return HA_OK;
}
