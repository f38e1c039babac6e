#include "mixers/ring.h"

#include <string.h>

ha_state_shape ha_ring_shape(const ha_attention *a)
{
    return (ha_state_shape){.planes = 2 * a->kv_heads, .row = a->dim, .tokens = a->sinks + a->window};
}

int ha_ring_slot(const ha_attention *a, int position)
{
    return position < a->sinks ? position : a->sinks + (position - a->sinks) % a->window;
}

/* One token takes its slot, and the softmax sees every slot: the order of keys does not matter. */
static ha_status one_token(const ha_attention *a, const ha_pass *pass, const ha_state *state, const float *qkv,
                           const ha_attention_out *out)
{
    const int q = a->heads * a->dim, kv = a->kv_heads * a->dim, slots = a->sinks + a->window, past = state->length;
    ha_state_store(state, ha_ring_slot(a, past), 1, qkv + q, 0);
    const int held = past + 1 < slots ? past + 1 : slots;
    const int32_t offset[2] = {0, 1};
    const ha_batch one = {.rows = 1, .n_seq = 1, .offset = offset};
    const ha_keys keys = ha_state_keys(state, held, held - 1);
    ha_attention all = *a;
    all.causal = all.window = all.sinks = 0; /* what is held is what may be seen */
    return ha_attention_decode(&all, &one, ha_rows_of(qkv, q + 2 * kv), &keys, out, pass->arena);
}

/* Held keys, then n new ones, in order, as the stored tokens of `joined`. */
static ha_status join(const ha_attention *a, const ha_state *state, int held, int n, const float *qkv, ha_arena *arena,
                      ha_state *joined)
{
    const size_t bytes = (size_t)a->dim * ha_dtype_size(state->type);
    const ptrdiff_t q = (ptrdiff_t)a->heads * a->dim, width = q + 2 * (ptrdiff_t)a->kv_heads * a->dim;
    char *rows;
    *joined = *state;
    joined->capacity = held + n;
    HA_PUSH(rows, arena, ha_state_rows_bytes(&state->shape, state->type, held + n));
    joined->rows = rows;
    for (int plane = 0; plane < state->shape.planes; plane++)
        for (int i = 0; i < held; i++) {
            int position = i < a->sinks ? i : state->length - held + i;
            memcpy(ha_state_row(joined, plane, i), ha_state_row(state, plane, ha_ring_slot(a, position)), bytes);
        }
    ha_state_store(joined, held, n, qkv + q, width);
    return HA_OK;
}

/* Several tokens: held keys and new ones laid out in order act as one shorter sequence: sinks keep
 * their numbers, the rest keep their distances. */
static ha_status many_tokens(const ha_attention *a, const ha_pass *pass, int n, const ha_state *state, const float *qkv,
                             const ha_attention_out *out)
{
    const ptrdiff_t q = (ptrdiff_t)a->heads * a->dim, width = q + 2 * (ptrdiff_t)a->kv_heads * a->dim;
    const int slots = a->sinks + a->window, past = state->length, held = past < slots ? past : slots;
    const size_t mark = ha_arena_mark(pass->arena);
    ha_state joined;
    HA_TRY(join(a, state, held, n, qkv, pass->arena, &joined));
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_keys keys = ha_state_keys(&joined, held + n, held);
    HA_TRY(ha_attention_forward(a, &one, ha_rows_of(qkv, width), &keys, out, pass->arena));
    for (int i = 0; i < n; i++)
        if (past + i < a->sinks || i >= n - a->window)
            ha_state_store(state, ha_ring_slot(a, past + i), 1, qkv + i * width + q, 0);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_ring_attend(const ha_attention *a, const ha_pass *pass, int seq, const ha_state *state, const float *qkv,
                         const ha_attention_out *out)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row;
    const ptrdiff_t width = (ptrdiff_t)(a->heads + 2 * a->kv_heads) * a->dim, at = (ptrdiff_t)row * a->heads;
    const ha_attention_out own = {ha_rows_out_from(out->values, row, 0), out->log_sum ? out->log_sum + at : NULL,
                                  out->largest ? out->largest + at : NULL};
    if (n == 1)
        return one_token(a, pass, state, qkv + row * width, &own);
    return n ? many_tokens(a, pass, n, state, qkv + row * width, &own) : HA_OK;
}
