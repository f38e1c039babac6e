/* The parts of a training step, for callers that share one out among processes: gradients of some
 * of its windows, their sum, and the update of some of the parameters. Blocks are those of the
 * whole step (see ops/optimizer.c), so that norm and update have the same bits however they are
 * shared out. */
#include <math.h>

#include "core/thread.h"
#include "distill/trainer.h"
#include "kernels/kernels.h"

enum { BLOCK = 1 << 16 };

static size_t blocks_in(const ha_segment *segment)
{
    return (segment->count + BLOCK - 1) / BLOCK;
}

int ha_trainer_blocks(const ha_trainer *t)
{
    size_t count = 0;
    for (int i = 0; i < t->segments; i++)
        count += blocks_in(&t->segment[i]);
    return (int)count;
}

size_t ha_trainer_block(const ha_trainer *t, int i)
{
    size_t left = (size_t)i;
    for (int s = 0; s < t->segments; s++) {
        const size_t own = blocks_in(&t->segment[s]);
        if (left < own)
            return t->segment[s].offset + left * BLOCK;
        left -= own;
    }
    return t->segments ? t->segment[t->segments - 1].offset + t->segment[t->segments - 1].count : 0;
}

void ha_trainer_stages(const ha_trainer *t, int64_t *stage)
{
    for (int s = 0; s < t->segments; s++)
        for (size_t left = blocks_in(&t->segment[s]); left; left--)
            *stage++ = ha_param_stage(t->student, t->segment_param[s]);
}

int64_t ha_trainer_finished(const ha_trainer *t)
{
    return atomic_load_explicit(&t->finished, memory_order_acquire);
}

/* piece [stop - first]: the blocks as segments of their own, with the rates of their groups */
static ha_status pieces_of(const ha_trainer *t, int first, int stop, const float *lr, ha_arena *arena,
                           ha_segment **piece)
{
    int at = 0;
    HA_PUSH(*piece, arena, (size_t)(stop - first) + 1);
    for (int s = 0; s < t->segments; s++) {
        const ha_segment *all = &t->segment[s];
        const float rate = lr ? lr[t->student->params.list[t->segment_param[s]].group] : 0.0f;
        for (size_t from = 0; from < all->count && at < stop; from += BLOCK, at++) {
            const size_t left = all->count - from;
            if (at >= first)
                (*piece)[at - first] = (ha_segment){.offset = all->offset + from,
                                                    .count = left < BLOCK ? left : BLOCK,
                                                    .lr = rate,
                                                    .decay = all->decay};
        }
    }
    return HA_OK;
}

ha_status ha_trainer_gradients(ha_trainer *t, const ha_share *share, const ha_train_data *given, float *grads,
                               ha_arena *arena, const ha_interrupt *check, double *loss)
{
    ha_model *m = t->student;
    float *own = m->grads;
    HA_TRY(ha_trainer_check(t));
    size_t mark = ha_arena_mark(arena);
    m->grads = grads; /* whoever holds the model's lock has its gradients to himself */
    const ha_status status = ha_trainer_accumulate(t, share, given, NULL, arena, check, loss);
    m->grads = own;
    ha_arena_release(arena, mark);
    return status;
}

ha_status ha_trainer_fold(const ha_trainer *t, float *sum, float *more, ha_arena *arena)
{
    const int count = ha_trainer_blocks(t);
    size_t mark = ha_arena_mark(arena);
    ha_segment *piece;
    HA_TRY(pieces_of(t, 0, count, NULL, arena, &piece));
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int b = 0; b < count; b++) {
        float *to = sum + piece[b].offset, *from = more + piece[b].offset;
        for (size_t i = 0; i < piece[b].count; i++) {
            to[i] += from[i];
            from[i] = 0.0f;
        }
    }
    ha_arena_release(arena, mark);
    return HA_OK;
}

ha_status ha_trainer_squares(const ha_trainer *t, const float *grads, int first, int stop, double *squares,
                             ha_arena *arena)
{
    const ha_kernels *kernel = ha_kernels_get();
    size_t mark = ha_arena_mark(arena);
    ha_segment *piece;
    HA_TRY(pieces_of(t, first, stop, NULL, arena, &piece));
#pragma omp parallel for schedule(dynamic, 1) num_threads(ha_threads())
    for (int b = 0; b < stop - first; b++)
        squares[b] = kernel->sum_squares(piece[b].count, grads + piece[b].offset);
    ha_arena_release(arena, mark);
    return HA_OK;
}

ha_status ha_trainer_update(ha_trainer *t, float *grads, int first, int stop, double norm, const float lr[2],
                            ha_arena *arena)
{
    const ha_train_options *o = &t->options;
    if (!isfinite(norm))
        return ha_fail(HA_BAD_VALUE, "the gradient at step %lld is not finite: lower the learning rate",
                       (long long)t->steps + 1);
    HA_TRY(ha_trainer_check(t));
    size_t mark = ha_arena_mark(arena);
    ha_segment *piece;
    HA_TRY(pieces_of(t, first, stop, lr, arena, &piece));
    const ha_adamw_options step = {ha_trainer_clip(t, norm), o->beta1, o->beta2, o->eps, t->steps + 1};
    const ha_adamw_arenas at = {t->student->weights, grads, t->m, t->v, o->moments};
    HA_TRY(ha_adamw(&step, stop - first, piece, &at, arena));
    ha_arena_release(arena, mark);
    return HA_OK;
}

ha_status ha_trainer_align(ha_trainer *t, const ha_windows *w, const ha_align_part *part, const float lr[2],
                           ha_arena *arena, const ha_interrupt *check, double *loss, double *grad_norm)
{
    const ha_share all = {w, 0, w->count};
    HA_TRY(ha_trainer_check(t));
    size_t mark = ha_arena_mark(arena);
    ha_status status = ha_trainer_accumulate(t, &all, NULL, part, arena, check, loss);
    if (status == HA_OK)
        status = ha_trainer_finish(t, part, lr, arena, grad_norm);
    ha_arena_release(arena, mark);
    if (status != HA_OK)
        ha_trainer_drop(t);
    return status;
}
