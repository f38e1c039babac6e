#include "mixers/ring.h"

#include <string.h>

static size_t pair_floats(const ha_attention *a)
{
    return 2 * (size_t)(a->kv_heads * a->dim);
}

size_t ha_ring_floats(const ha_attention *a)
{
    return (size_t)(a->sinks + a->window) * pair_floats(a);
}

float *ha_ring_row(const ha_attention *a, float *ring, int position)
{
    int index = position < a->sinks ? position : a->sinks + (position - a->sinks) % a->window;
    return ring + (size_t)index * pair_floats(a);
}

/* One token takes its slot, and the softmax sees every slot: the order of keys does not matter. */
static ha_status one_token(const ha_attention *a, const ha_pass *pass, int past, float *ring, const float *qkv,
                           float *out, float *lse, float *max)
{
    const int kv = a->kv_heads * a->dim, q = a->heads * a->dim, slots = a->sinks + a->window;
    memcpy(ha_ring_row(a, ring, past), qkv + q, pair_floats(a) * sizeof *ring);
    const int held = past + 1 < slots ? past + 1 : slots;
    const int32_t offset[2] = {0, 1};
    const ha_batch one = {.rows = 1, .n_seq = 1, .offset = offset};
    const ha_keys keys = {
        .k = ring, .v = ring + kv, .row = 2 * kv, .head_stride = a->dim, .length = held, .past = held - 1};
    ha_attention all = *a;
    all.causal = all.window = all.sinks = 0; /* what is held is what may be seen */
    return ha_attention_decode(&all, &one, qkv, q + 2 * kv, &keys, out, q, lse, max, pass->arena);
}

/* Several tokens: held keys and new ones laid out in order act as one shorter sequence: sinks keep their numbers, the rest
 * keep their distances. */
static ha_status many_tokens(const ha_attention *a, const ha_pass *pass, int n, int past, float *ring, const float *qkv,
                             float *out, float *lse, float *max)
{
    const size_t pair = pair_floats(a), q = (size_t)(a->heads * a->dim), width = q + pair;
    const int slots = a->sinks + a->window, held = past < slots ? past : slots;
    const size_t mark = ha_arena_mark(pass->arena);
    float *rows;
    HA_PUSH(rows, pass->arena, (size_t)(held + n) * pair);
    for (int i = 0; i < held; i++) {
        int position = i < a->sinks ? i : past - held + i;
        memcpy(rows + (size_t)i * pair, ha_ring_row(a, ring, position), pair * sizeof *rows);
    }
    for (int i = 0; i < n; i++)
        memcpy(rows + (size_t)(held + i) * pair, qkv + (size_t)i * width + q, pair * sizeof *rows);
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_keys keys = {.k = rows,
                          .v = rows + pair / 2,
                          .row = (ptrdiff_t)pair,
                          .head_stride = a->dim,
                          .length = held + n,
                          .past = held};
    HA_TRY(ha_attention_forward(a, &one, qkv, (ptrdiff_t)width, &keys, out, (ptrdiff_t)q, lse, max, pass->arena));
    for (int i = 0; i < n; i++)
        if (past + i < a->sinks || i >= n - a->window)
            memcpy(ha_ring_row(a, ring, past + i), qkv + (size_t)i * width + q, pair * sizeof *ring);
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_ring_attend(const ha_attention *a, const ha_pass *pass, int seq, int past, float *ring, const float *qkv,
                         float *out, float *lse, float *max)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row;
    const ptrdiff_t q = (ptrdiff_t)a->heads * a->dim, at = (ptrdiff_t)row * a->heads;
    qkv += row * (q + (ptrdiff_t)pair_floats(a));
    out += row * q;
    lse += at;
    max = max ? max + at : NULL;
    if (n == 1)
        return one_token(a, pass, past, ring, qkv, out, lse, max);
    return n ? many_tokens(a, pass, n, past, ring, qkv, out, lse, max) : HA_OK;
}
