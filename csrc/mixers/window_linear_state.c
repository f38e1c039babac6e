/* The layout of window_linear, and its decode state. The state has a fixed size: a ring of stored
 * tokens (ring.h), and floats:
 *     [window][kv_heads, feature]  features of the ring's keys
 *     [kv_heads][feature, dim + 1] sums over the keys that have left the window */
#include "mixers/window_linear_state.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "mixers/ring.h"

ha_window_layout ha_window_layout_of(const ha_mixer *mixer)
{
    const ha_config *c = mixer->config;
    const ha_feature map = (ha_feature)mixer->option[OPTION_FEATURE];
    return (ha_window_layout){.heads = c->num_heads,
                              .kv_heads = c->num_kv_heads,
                              .dim = c->head_dim,
                              .q = c->num_heads * c->head_dim,
                              .kv = c->num_kv_heads * c->head_dim,
                              .width = (c->num_heads + 2 * c->num_kv_heads) * c->head_dim,
                              .feature = ha_feature_width(map, c->head_dim),
                              .map = map,
                              .window = mixer->option[OPTION_WINDOW],
                              .sinks = mixer->option[OPTION_SINKS],
                              .rope_features = mixer->option[OPTION_ROPE_FEATURES],
                              .bidirectional = c->bidirectional,
                              .scale = 1.0f / sqrtf((float)c->head_dim)};
}

ha_state_shape ha_window_state(const ha_mixer *mixer)
{
    const ha_window_layout l = ha_window_layout_of(mixer);
    const ha_attention near = ha_window_attention(&l);
    ha_state_shape shape = ha_ring_shape(&near);
    shape.floats = (size_t)(l.kv_heads * l.feature) * (size_t)(l.window + l.dim + 1);
    return shape;
}

static float *features_at(const ha_window_layout *l, const ha_state *state, int position)
{
    return state->data + (size_t)((position - l->sinks) % l->window) * (size_t)(l->kv_heads * l->feature);
}

static float *sums_of(const ha_window_layout *l, const ha_state *state)
{
    return state->data + (size_t)l->window * (size_t)(l->kv_heads * l->feature);
}

/* One token: the key that leaves the window joins the sums. */
static ha_status far_of_one(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                            const ha_state *state)
{
    const ha_kernels *kernel = ha_kernels_get();
    const ha_attention near = ha_window_attention(l);
    const int row = pass->batch->offset[seq], F = l->feature, D = l->dim, group = l->heads / l->kv_heads,
              leaving = state->length - l->window;
    float *all_sums = sums_of(l, state);
    if (leaving >= l->sinks) {
        const float *fk = features_at(l, state, leaving);
        for (int h = 0; h < l->kv_heads; h++) {
            float value[HA_MAX_HEAD_DIM], *sums = all_sums + (size_t)h * (size_t)(F * (D + 1));
            ha_state_fetch(state, l->kv_heads + h, ha_ring_slot(&near, leaving), value);
            kernel->gemm(ha_matmul_of(F, D, 1, 1), ha_view_transposed(ha_rows_of(fk + h * F, F)), ha_rows_of(value, D),
                         ha_rows_to(sums, D));
            kernel->axpy((size_t)F, 1.0f, fk + h * F, sums + F * D);
        }
    }
    for (int h = 0; h < l->heads; h++) {
        const float *fq = p->query_features + ((size_t)row * (size_t)l->heads + (size_t)h) * (size_t)F;
        const float *sums = all_sums + (size_t)(h / group) * (size_t)(F * (D + 1));
        kernel->gemm(ha_matmul_of(1, D, F, 0), ha_view_rows(ha_rows_of(fq, F)), ha_rows_of(sums, D),
                     ha_rows_to(p->far + (size_t)row * (size_t)l->q + h * D, D));
        p->denominators[(size_t)row * (size_t)l->heads + (size_t)h] = kernel->dot((size_t)F, fq, sums + F * D);
    }
    return HA_OK;
}

/* Several tokens: the keys that leave the window meet the queries row by row. */
static ha_status far_of_many(const ha_window_layout *l, const ha_pass *pass, const ha_window_parts *p, int seq,
                             const ha_state *state)
{
    const int row = pass->batch->offset[seq], n = pass->batch->offset[seq + 1] - row, past = state->length;
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
            memcpy(key, features_at(l, state, position), fk_row * sizeof *key);
            for (int h = 0; h < l->kv_heads; h++)
                ha_state_fetch(state, l->kv_heads + h, ha_ring_slot(&near, position), value + (ptrdiff_t)h * l->dim);
        } else {
            memcpy(key, p->key_features + (size_t)(row + position - past) * fk_row, fk_row * sizeof *key);
            for (int h = 0; h < l->kv_heads; h++)
                ha_state_round(state,
                               p->qkv + (size_t)(row + position - past) * (size_t)l->width + l->q + l->kv + h * l->dim,
                               value + (ptrdiff_t)h * l->dim);
        }
    }
    const int32_t offset[2] = {0, n};
    const ha_batch one = {.rows = n, .n_seq = 1, .offset = offset};
    const ha_linear_attention rest = ha_window_rest(l, 0);
    const size_t at = (size_t)row * (size_t)l->heads;
    const ha_rows keys = ha_rows_of(far_keys, (ptrdiff_t)fk_row), values = ha_rows_of(far_values, l->kv);
    const ha_rows queries = ha_rows_of(p->query_features + at * (size_t)l->feature, l->heads * l->feature);
    const ha_linear_attention_in operands = {queries, &keys, &values};
    const ha_linear_attention_out out = {ha_rows_to(p->far + (size_t)row * (size_t)l->q, l->q), p->denominators + at};
    HA_TRY(ha_linear_attention_forward(&rest, &one, &operands, (float *const[]){sums_of(l, state)}, &out, NULL,
                                       pass->arena));
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
        if (n == 1)
            HA_TRY(far_of_one(&l, pass, p, s, &state[s]));
        else if (n > 1)
            HA_TRY(far_of_many(&l, pass, p, s, &state[s]));
        const ha_attention_out beside = {ha_rows_to(p->near, l.q), p->log_sum, p->largest};
        HA_TRY(ha_ring_attend(&near, pass, s, &state[s], p->qkv, &beside));
        for (int i = 0; i < n; i++)
            if (past + i >= l.sinks && i >= n - l.window)
                memcpy(features_at(&l, &state[s], past + i), p->key_features + (size_t)(row + i) * fk_row,
                       fk_row * sizeof *p->key_features);
    }
    return HA_OK;
}
