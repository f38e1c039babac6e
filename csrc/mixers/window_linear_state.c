/* Decode state of window_linear, of fixed size:
 *     [sinks + window][k, v][kv]   keys and values of the first tokens, then of the last `window` ones (ring.h)
 *     [window][kv_heads, feature]  features of the ring's keys
 *     [kv_heads][feature, dim + 1] sums over the keys that have left the window */
#include <string.h>

#include "kernels/kernels.h"
#include "mixers/ring.h"
#include "mixers/window_linear.h"

typedef struct {
    float *ring, *features, *sums;
} view;

static view view_of(const ha_window_layout *l, float *data)
{
    const ha_attention near = ha_window_attention(l);
    float *features = data + ha_ring_floats(&near);
    return (view){data, features, features + (size_t)l->window * (size_t)(l->kv_heads * l->feature)};
}

size_t ha_window_state_floats(const ha_mixer *mixer, int capacity)
{
    ha_window_layout l = ha_window_layout_of(mixer);
    (void)capacity;
    return (size_t)(view_of(&l, NULL).sums - (float *)NULL) + (size_t)(l.kv_heads * l.feature * (l.dim + 1));
}

static float *features_at(const ha_window_layout *l, const view *v, int position)
{
    return v->features + (size_t)((position - l->sinks) % l->window) * (size_t)(l->kv_heads * l->feature);
}

/* One token: the key that leaves the window joins the sums. */
static ha_status far_of_one(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, const view *v,
                            int seq, int past)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_attention near = ha_window_attention(l);
    const int row = pass->batch->offset[seq], F = l->feature, D = l->dim, group = l->heads / l->kv_heads,
              leaving = past - l->window;
    if (leaving >= l->sinks) {
        const float *fk = features_at(l, v, leaving), *value = ha_ring_row(&near, v->ring, leaving) + l->kv;
        for (int h = 0; h < l->kv_heads; h++) {
            float *sums = v->sums + (size_t)h * (size_t)(F * (D + 1));
            kernel->gemm(F, D, 1, 1.0f, fk + h * F, 1, F, value + h * D, D, 1, sums, D);
            kernel->axpy((size_t)F, 1.0f, fk + h * F, sums + F * D);
        }
    }
    for (int h = 0; h < l->heads; h++) {
        const float *fq = p->fq + ((size_t)row * (size_t)l->heads + (size_t)h) * (size_t)F;
        const float *sums = v->sums + (size_t)(h / group) * (size_t)(F * (D + 1));
        kernel->gemm(1, D, F, 1.0f, fq, F, 1, sums, D, 0, p->far + (size_t)row * (size_t)l->q + h * D, D);
        p->den[(size_t)row * (size_t)l->heads + (size_t)h] = kernel->dot((size_t)F, fq, sums + F * D);
    }
    return HA_OK;
}

/* Several tokens: the keys that leave the window meet the queries row by row. */
static ha_status far_of_many(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, const view *v,
                             int seq, int past)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row;
    const size_t fk_row = (size_t)(l->kv_heads * l->feature), mark = ha_arena_mark(pass->arena);
    const ha_attention near = ha_window_attention(l);
    float *far_keys, *far_values;
    HA_PUSH(far_keys, pass->arena, (size_t)n * fk_row);
    HA_PUSH(far_values, pass->arena, (size_t)n * (size_t)l->kv);
    for (int i = 0; i < n; i++) {
        int position = past + i - l->window;
        float *key = far_keys + (size_t)i * fk_row, *value = far_values + (size_t)i * (size_t)l->kv;
        if (position < l->sinks) {
            memset(key, 0, fk_row * sizeof *key);
            memset(value, 0, (size_t)l->kv * sizeof *value);
        } else if (position < past) {
            memcpy(key, features_at(l, v, position), fk_row * sizeof *key);
            memcpy(value, ha_ring_row(&near, v->ring, position) + l->kv, (size_t)l->kv * sizeof *value);
        } else {
            memcpy(key, p->fk + (size_t)(row + position - past) * fk_row, fk_row * sizeof *key);
            memcpy(value, p->qkv + (size_t)(row + position - past) * (size_t)l->width + l->q + l->kv,
                   (size_t)l->kv * sizeof *value);
        }
    }
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_linear_attention rest = ha_window_rest(l, 0);
    const size_t at = (size_t)row * (size_t)l->heads;
    HA_TRY(ha_linear_attention_forward(&rest, &one, p->fq + at * (size_t)l->feature, l->heads * l->feature,
                                       (const float *const[]){far_keys}, (ptrdiff_t)fk_row,
                                       (const float *const[]){far_values}, l->kv, (float *const[]){v->sums},
                                       p->far + (size_t)row * (size_t)l->q, l->q, p->den + at, NULL, pass->arena));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

ha_status ha_window_continue(const ha_mixer *mixer, const ha_pass *pass, const ha_window_parts *p, ha_state *state)
{
    const ha_window_layout l = ha_window_layout_of(mixer);
    const ha_attention near = ha_window_attention(&l);
    const size_t fk_row = (size_t)(l.kv_heads * l.feature);
    for (int s = 0; s < pass->batch->n_seq; s++) {
        const int row = pass->batch->offset[s], n = pass->batch->offset[s + 1] - row, past = state[s].length;
        const view v = view_of(&l, state[s].data);
        if (n == 1)
            HA_TRY(far_of_one(&l, pass, p, &v, s, past));
        else if (n > 1)
            HA_TRY(far_of_many(&l, pass, p, &v, s, past));
        HA_TRY(ha_ring_attend(&near, pass, s, past, v.ring, p->qkv, p->near, p->lse, p->max));
        for (int i = 0; i < n; i++)
            if (past + i >= l.sinks && i >= n - l.window)
                memcpy(features_at(&l, &v, past + i), p->fk + (size_t)(row + i) * fk_row, fk_row * sizeof *p->fk);
    }
    return HA_OK;
}
