/* Decode state of window_linear, of fixed size:
 *     [sinks + window][k, v][kv]   keys and values of the first tokens, then of the last `window` ones as a ring
 *     [window][kv_heads, feature]  features of the ring's keys
 *     [kv_heads][feature, dim + 1] sums over the keys that have left the window
 * The token at position p >= sinks lies in ring slot (p - sinks) mod window. */
#include <string.h>

#include "kernels/kernels.h"
#include "mixers/window_linear.h"

typedef struct {
    float *rows, *features, *sums;
} view;

static view view_of(const ha_window_layout *l, float *data)
{
    size_t rows = (size_t)(l->sinks + l->window) * 2 * (size_t)l->kv;
    size_t features = (size_t)l->window * (size_t)(l->kv_heads * l->feature);
    return (view){data, data + rows, data + rows + features};
}

size_t ha_window_state_floats(const ha_mixer *mixer, int capacity)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    (void)capacity;
    return (size_t)(l.sinks + l.window) * 2 * (size_t)l.kv + (size_t)l.window * (size_t)(l.kv_heads * l.feature) +
           (size_t)(l.kv_heads * l.feature * (l.dim + 1));
}

static float *row_at(const ha_window_layout *l, const view *v, int position)
{
    int index = position < l->sinks ? position : l->sinks + (position - l->sinks) % l->window;
    return v->rows + (size_t)index * 2 * (size_t)l->kv;
}

static float *features_at(const ha_window_layout *l, const view *v, int position)
{
    return v->features + (size_t)((position - l->sinks) % l->window) * (size_t)(l->kv_heads * l->feature);
}

static void store(const ha_window_layout *l, const view *v, int position, const float *kv_row, const float *fk)
{
    memcpy(row_at(l, v, position), kv_row, 2 * (size_t)l->kv * sizeof *kv_row);
    if (position >= l->sinks)
        memcpy(features_at(l, v, position), fk, (size_t)(l->kv_heads * l->feature) * sizeof *fk);
}

/* One token: the key that leaves the window joins the sums, its slot takes the new key, and the softmax sees every slot. */
static ha_status one_token(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                           ha_state *state)
{
    const ha_kernels *kernel = ha_kernels_get();
    const int row = pass->batch->offset[seq], position = state->length, F = l->feature, D = l->dim,
              group = l->heads / l->kv_heads;
    view v = view_of(l, state->data);
    int leaving = position - l->window;
    if (leaving >= l->sinks) {
        const float *fk = features_at(l, &v, leaving), *value = row_at(l, &v, leaving) + l->kv;
        for (int h = 0; h < l->kv_heads; h++) {
            float *sums = v.sums + (size_t)h * (size_t)(F * (D + 1));
            kernel->gemm(F, D, 1, 1.0f, fk + h * F, 1, F, value + h * D, D, 1, sums, D);
            kernel->axpy((size_t)F, 1.0f, fk + h * F, sums + F * D);
        }
    }
    store(l, &v, position, p->qkv + (size_t)row * (size_t)l->width + l->q,
          p->fk + (size_t)row * (size_t)(l->kv_heads * F));
    for (int h = 0; h < l->heads; h++) {
        const float *fq = p->fq + ((size_t)row * (size_t)l->heads + (size_t)h) * (size_t)F;
        const float *sums = v.sums + (size_t)(h / group) * (size_t)(F * (D + 1));
        kernel->gemm(1, D, F, 1.0f, fq, F, 1, sums, D, 0, p->far + (size_t)row * (size_t)l->q + h * D, D);
        p->den[(size_t)row * (size_t)l->heads + (size_t)h] = kernel->dot((size_t)F, fq, sums + F * D);
    }
    int held = position + 1 < l->sinks + l->window ? position + 1 : l->sinks + l->window;
    const int32_t offset[2] = {0, 1};
    const ha_batch one = {.rows = 1, .n_seq = 1, .offset = offset};
    const ha_keys keys = {
        .k = v.rows, .v = v.rows + l->kv, .row = 2 * l->kv, .head_stride = D, .length = held, .past = held - 1};
    ha_attention all = ha_window_attention(l);
    all.causal = all.window = all.sinks = 0; /* what is held is what may be seen; the order of keys does not matter */
    return ha_attention_decode(&all, &one, p->qkv + (size_t)row * (size_t)l->width, l->width, &keys,
                               p->near + (size_t)row * (size_t)l->q, l->q, p->lse + (size_t)row * (size_t)l->heads,
                               p->max + (size_t)row * (size_t)l->heads, pass->arena);
}

/* Several tokens: held keys and new ones laid out in order act as one shorter sequence (sinks keep their numbers, the
 * rest keep their distances), and the keys that leave the window meet the queries row by row. */
static ha_status many_tokens(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                             ha_state *state)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row, past = state->length;
    const size_t pair = 2 * (size_t)l->kv, fk_row = (size_t)(l->kv_heads * l->feature);
    const int held = past < l->sinks + l->window ? past : l->sinks + l->window;
    view v = view_of(l, state->data);
    float *rows, *far_keys, *far_values;
    size_t mark = ha_arena_mark(pass->arena);
    HA_PUSH(rows, pass->arena, (size_t)(held + n) * pair);
    HA_PUSH(far_keys, pass->arena, (size_t)n * fk_row);
    HA_PUSH(far_values, pass->arena, (size_t)n * (size_t)l->kv);
    for (int i = 0; i < held; i++) {
        int position = i < l->sinks ? i : past - held + i;
        memcpy(rows + (size_t)i * pair, row_at(l, &v, position), pair * sizeof *rows);
    }
    for (int i = 0; i < n; i++)
        memcpy(rows + (size_t)(held + i) * pair, p->qkv + (size_t)(row + i) * (size_t)l->width + l->q,
               pair * sizeof *rows);
    for (int i = 0; i < n; i++) {
        int position = past + i - l->window;
        float *key = far_keys + (size_t)i * fk_row, *value = far_values + (size_t)i * (size_t)l->kv;
        if (position < l->sinks) {
            memset(key, 0, fk_row * sizeof *key);
            memset(value, 0, (size_t)l->kv * sizeof *value);
        } else if (position < past) {
            memcpy(key, features_at(l, &v, position), fk_row * sizeof *key);
            memcpy(value, row_at(l, &v, position) + l->kv, (size_t)l->kv * sizeof *value);
        } else {
            memcpy(key, p->fk + (size_t)(row + position - past) * fk_row, fk_row * sizeof *key);
            memcpy(value, p->qkv + (size_t)(row + position - past) * (size_t)l->width + l->q + l->kv,
                   (size_t)l->kv * sizeof *value);
        }
    }
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_keys keys = {
        .k = rows, .v = rows + l->kv, .row = (ptrdiff_t)pair, .head_stride = l->dim, .length = held + n, .past = held};
    const ha_attention near = ha_window_attention(l);
    const ha_linear_attention rest = ha_window_rest(l, 0);
    size_t at = (size_t)row * (size_t)l->heads;
    HA_TRY(ha_attention_forward(&near, &one, p->qkv + (size_t)row * (size_t)l->width, l->width, &keys,
                                p->near + (size_t)row * (size_t)l->q, l->q, p->lse + at, p->max + at, pass->arena));
    HA_TRY(ha_linear_attention_forward(&rest, &one, p->fq + at * (size_t)l->feature, l->heads * l->feature,
                                       (const float *const[]){far_keys}, (ptrdiff_t)fk_row,
                                       (const float *const[]){far_values}, l->kv, (float *const[]){v.sums},
                                       p->far + (size_t)row * (size_t)l->q, l->q, p->den + at, NULL, pass->arena));
    for (int i = 0; i < n; i++)
        if (past + i < l->sinks || i >= n - l->window)
            store(l, &v, past + i, p->qkv + (size_t)(row + i) * (size_t)l->width + l->q,
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
