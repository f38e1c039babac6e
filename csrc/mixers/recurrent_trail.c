/* The recurrence token by token, each of which leaves a state in the trail (trail.h). All else is
 * done for all tokens at once. */
#include <string.h>

#include "mixers/recurrent.h"
#include "mixers/trail.h"

/* The operands from a row on. */
static ha_recurrent_operands from_row(const ha_recurrent_layout *l, const ha_recurrent_operands *x, ptrdiff_t row)
{
    ha_recurrent_operands to = *x;
    float **const kept[] = {&to.keys, &to.values, &to.erase_write, &to.erase_read};
    for (int i = 0; i < 4; i++)
        *kept[i] = *kept[i] ? *kept[i] + row * l->kept : NULL;
    to.queries += row * l->inner;
    to.written = x->written == x->keys ? to.keys : x->written + row * l->gated;
    to.beta = x->beta ? x->beta + row * l->kv_heads : NULL;
    to.log_decay = x->log_decay ? x->log_decay + row * (l->frame->gate == HA_GATE_HEAD ? l->kv_heads : l->gated) : NULL;
    return to;
}

ha_status ha_recurrent_run_trail(const ha_recurrent_layout *l, const ha_batch *batch, const ha_recurrent_operands *in,
                                 const float *projected, ha_state *state, float *o, ha_arena *arena)
{
    const int32_t offset[2] = {0, 1};
    const ha_batch one = {.rows = 1, .n_seq = 1, .offset = offset};
    const ha_recurrence_saved none = {0};
    const size_t channels = (size_t)l->mixed;
    for (int s = 0; s < batch->n_seq; s++)
        for (ptrdiff_t r = batch->offset[s]; r < batch->offset[s + 1]; r++) {
            const size_t mark = ha_arena_mark(arena);
            ha_trail_step(&state[s]);
            const ha_recurrent_operands own = from_row(l, in, r);
            HA_TRY(ha_recurrent_run(l, &one, &own, &state[s].data, o + r * l->inner, &none, arena));
            if (l->conv > 1) {
                float *past = state[s].data + l->state, *last = past + (size_t)(l->conv - 2) * channels;
                memmove(past, past + channels, (size_t)(last - past) * sizeof *past);
                memcpy(last, projected + r * l->width, channels * sizeof *past);
            }
            ha_arena_release(arena, mark);
        }
    return HA_OK;
}

ha_status ha_recurrent_pasts(const ha_recurrent_layout *l, const ha_pass *pass, const ha_state *state, float **past)
{
    const size_t floats = l->conv ? (size_t)(l->conv - 1) * (size_t)l->mixed : 0;
    for (int s = 0; s < pass->batch->n_seq; s++) {
        past[s] = state ? state[s].data + l->state : NULL;
        if (!floats || !state || !pass->trailing)
            continue;
        const float *from = past[s];
        HA_PUSH(past[s], pass->arena, floats);
        memcpy(past[s], from, floats * sizeof *from);
    }
    return HA_OK;
}
