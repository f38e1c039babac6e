/* What a training run would need, found by doing one micro-batch of it with the least memory: every
 * layer is recomputed, no weight changes, no moment is touched. */
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "distill/trainer.h"

/* kept [num_layers]: bytes of what each layer saves, beyond its input */
static ha_status saved_bytes(const ha_model *m, const ha_batch *batch, ha_arena *arena, size_t *kept)
{
    const size_t wide = (size_t)batch->rows * (size_t)m->config.hidden_size;
    float *gates;
    HA_PUSH(gates, arena, (size_t)m->config.num_layers);
    HA_TRY(ha_gates_of(m, NULL, gates));
    for (int l = 0; l < m->config.num_layers; l++) {
        const size_t floats = ha_layer_saved(m, l, (ha_layer_run){gates[l], 0}, batch);
        kept[l] = floats > wide ? (floats - wide) * sizeof(float) : 0;
    }
    return HA_OK;
}

static ha_status rehearse(ha_trainer *t, const ha_windows *w, const ha_train_data *given, ha_arena *arena,
                          const ha_interrupt *check, double *loss, size_t *kept)
{
    const ha_share all = {w, 0, w->count};
    ha_batch batch;
    HA_TRY(ha_windows_batch(w, 0, w->count, 1, arena, &batch));
    HA_TRY(saved_bytes(t->student, &batch, arena, kept));
    return ha_trainer_accumulate(t, &all, given, NULL, arena, check, loss);
}

ha_status ha_trainer_rehearse(ha_trainer *t, const ha_windows *w, const ha_train_data *given, ha_arena *arena,
                              const ha_interrupt *check, size_t *peak, size_t *kept)
{
    const ha_train_options own = t->options;
    const size_t mark = ha_arena_mark(arena);
    HA_TRY(ha_trainer_check(t));
    double *loss = calloc((size_t)t->student->config.num_layers, sizeof *loss);
    if (!loss)
        return ha_fail(HA_NO_MEMORY, "out of memory for a rehearsal");
    t->options.recompute = t->student->config.num_layers;
    t->options.micro_batch = w->count;
    ha_arena_trim(arena);
    ha_status status = rehearse(t, w, given, arena, check, loss, kept);
    *peak = arena->peak;
    ha_arena_release(arena, mark);
    ha_arena_trim(arena);
    ha_trainer_drop(t);
    t->options = own;
    free(loss);
#ifdef __GLIBC__
    malloc_trim(0); /* what reading files left behind would count against the budget */
#endif
    return status;
}
