/* Decode state of window_linear, of fixed size. Stored tokens: the first `sinks`, then the last `window` as a ring, in which
 * the token at position p lies in slot sinks + (p - sinks) mod window. Floats:
 *     [window][kv_heads, feature]  features of the ring's keys
 *     [kv_heads][feature, dim + 1] sums over the keys that have left the window */
#include <string.h>

#include "kernels/kernels.h"
#include "mixers/state.h"
#include "mixers/window_linear.h"

ha_state_shape ha_window_state(const ha_mixer *mixer)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    return (ha_state_shape){.planes = 2 * l.kv_heads,
                            .row = l.dim,
                            .tokens = l.sinks + l.window,
                            .floats = (size_t)l.window * (size_t)(l.kv_heads * l.feature) +
                                      (size_t)(l.kv_heads * l.feature * (l.dim + 1))};
}

static int slot_of(const ha_window_layout *l, int position)
{
    return position < l->sinks ? position : l->sinks + (position - l->sinks) % l->window;
}

static float *features_at(const ha_window_layout *l, const ha_state *state, int position)
{
    return state->data + (size_t)((position - l->sinks) % l->window) * (size_t)(l->kv_heads * l->feature);
}

static float *sums_of(const ha_window_layout *l, const ha_state *state)
{
    return state->data + (size_t)l->window * (size_t)(l->kv_heads * l->feature);
}

static void store(const ha_window_layout *l, const ha_state *state, int position, const float *kv_row, const float *fk)
{
    ha_state_store(state, slot_of(l, position), 1, kv_row, 0);
    if (position >= l->sinks)
        memcpy(features_at(l, state, position), fk, (size_t)(l->kv_heads * l->feature) * sizeof *fk);
}

/* One token: the key that leaves the window joins the sums, its slot takes the new key, and the softmax sees every slot. */
static ha_status one_token(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                           ha_state *state)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int row = pass->batch->offset[seq], position = state->length, F = l->feature, D = l->dim,
              group = l->heads / l->kv_heads;
    float *all_sums = sums_of(l, state);
    int leaving = position - l->window;
    if (leaving >= l->sinks) {
        const float *fk = features_at(l, state, leaving);
        for (int h = 0; h < l->kv_heads; h++) {
            float value[HA_MAX_HEAD_DIM], *sums = all_sums + (size_t)h * (size_t)(F * (D + 1));
            ha_state_fetch(state, l->kv_heads + h, slot_of(l, leaving), value);
            kernel->gemm(F, D, 1, 1.0f, fk + h * F, 1, F, value, D, 1, sums, D);
            kernel->axpy((size_t)F, 1.0f, fk + h * F, sums + F * D);
        }
    }
    store(l, state, position, p->qkv + (size_t)row * (size_t)l->width + l->q,
          p->fk + (size_t)row * (size_t)(l->kv_heads * F));
    for (int h = 0; h < l->heads; h++) {
        const float *fq = p->fq + ((size_t)row * (size_t)l->heads + (size_t)h) * (size_t)F;
        const float *sums = all_sums + (size_t)(h / group) * (size_t)(F * (D + 1));
        kernel->gemm(1, D, F, 1.0f, fq, F, 1, sums, D, 0, p->far + (size_t)row * (size_t)l->q + h * D, D);
        p->den[(size_t)row * (size_t)l->heads + (size_t)h] = kernel->dot((size_t)F, fq, sums + F * D);
    }
    int held = position + 1 < l->sinks + l->window ? position + 1 : l->sinks + l->window;
    const int32_t offset[2] = {0, 1};
    const ha_batch one = {.rows = 1, .n_seq = 1, .offset = offset};
    const ha_keys keys = ha_state_keys(state, held, held - 1);
    ha_attention all = ha_window_attention(l);
    all.causal = all.window = all.sinks = 0; /* what is held is what may be seen; the order of keys does not matter */
    return ha_attention_decode(&all, &one, p->qkv + (size_t)row * (size_t)l->width, l->width, &keys,
                               p->near + (size_t)row * (size_t)l->q, l->q, p->lse + (size_t)row * (size_t)l->heads,
                               p->max + (size_t)row * (size_t)l->heads, pass->arena);
}

/* Held keys, then the batch's, in order: position p >= sinks is row p - past + held of both `joined` parts. */
static ha_status join(const ha_window_layout *l, const ha_window_parts *p, int row, int n, int held,
                      const ha_state *state, ha_arena *arena, ha_state *joined)
{
    const size_t bytes = (size_t)l->dim * ha_dtype_size(state->type);
    char *rows;
    *joined = *state;
    joined->capacity = held + n;
    HA_PUSH(rows, arena, ha_state_rows_bytes(&state->shape, state->type, held + n));
    joined->rows = rows;
    for (int plane = 0; plane < state->shape.planes; plane++)
        for (int i = 0; i < held; i++) {
            int position = i < l->sinks ? i : state->length - held + i;
            memcpy(ha_state_row(joined, plane, i), ha_state_row(state, plane, slot_of(l, position)), bytes);
        }
    ha_state_store(joined, held, n, p->qkv + (size_t)row * (size_t)l->width + l->q, l->width);
    return HA_OK;
}

/* Several tokens: held keys and new ones laid out in order act as one shorter sequence (sinks keep their numbers, the
 * rest keep their distances), and the keys that leave the window meet the queries row by row. */
static ha_status many_tokens(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                             ha_state *state)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row, past = state->length;
    const size_t fk_row = (size_t)(l->kv_heads * l->feature);
    const int held = past < l->sinks + l->window ? past : l->sinks + l->window;
    float *far_keys, *far_values;
    ha_state joined;
    size_t mark = ha_arena_mark(pass->arena);
    HA_TRY(join(l, p, row, n, held, state, pass->arena, &joined));
    HA_PUSH(far_keys, pass->arena, (size_t)n * fk_row);
    HA_PUSH(far_values, pass->arena, (size_t)n * (size_t)l->kv);
    for (int i = 0; i < n; i++) {
        int position = past + i - l->window;
        float *key = far_keys + (size_t)i * fk_row, *value = far_values + (size_t)i * (size_t)l->kv;
        if (position < l->sinks) {
            memset(key, 0, fk_row * sizeof *key);
            memset(value, 0, (size_t)l->kv * sizeof *value);
            continue;
        }
        for (int h = 0; h < l->kv_heads; h++)
            ha_state_fetch(&joined, l->kv_heads + h, position - past + held, value + (ptrdiff_t)h * l->dim);
        memcpy(key,
               position < past ? features_at(l, state, position) : p->fk + (size_t)(row + position - past) * fk_row,
               fk_row * sizeof *key);
    }
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_keys keys = ha_state_keys(&joined, held + n, held);
    const ha_attention near = ha_window_attention(l);
    const ha_linear_attention rest = ha_window_rest(l, 0);
    size_t at = (size_t)row * (size_t)l->heads;
    HA_TRY(ha_attention_forward(&near, &one, p->qkv + (size_t)row * (size_t)l->width, l->width, &keys,
                                p->near + (size_t)row * (size_t)l->q, l->q, p->lse + at, p->max + at, pass->arena));
    HA_TRY(ha_linear_attention_forward(&rest, &one, p->fq + at * (size_t)l->feature, l->heads * l->feature,
                                       (const float *const[]){far_keys}, (ptrdiff_t)fk_row,
                                       (const float *const[]){far_values}, l->kv, (float *const[]){sums_of(l, state)},
                                       p->far + (size_t)row * (size_t)l->q, l->q, p->den + at, NULL, pass->arena));
    for (int i = 0; i < n; i++)
        if (past + i < l->sinks || i >= n - l->window)
            store(l, state, past + i, p->qkv + (size_t)(row + i) * (size_t)l->width + l->q,
                  p->fk + (size_t)(row + i) * fk_row);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_window_continue(const ha_mixer *mixer, const ha_pass *pass, const ha_window_parts *p, ha_state *state)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    for (int s = 0; s < pass->batch->n_seq; s++) {
        int n = pass->batch->offset[s + 1] - pass->batch->offset[s];
        if (n == 1)
            HA_TRY(one_token(&l, pass, p, s, &state[s]));
        else if (n > 1)
            HA_TRY(many_tokens(&l, pass, p, s, &state[s]));
    }
    return HA_OK;
}
