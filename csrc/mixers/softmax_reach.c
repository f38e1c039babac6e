/* How far the heads of a softmax mixer look on a batch. */
#include "mixers/projections.h"
#include "mixers/softmax.h"

enum { EVERY = 8 }; /* of as many queries one is asked: neighbours look alike */

ha_status ha_softmax_reach(const ha_mixer *mixer, const ha_pass *pass, const float *x, double *sums)
{
    const ha_config *c = mixer->config;
    const ha_batch *batch = pass->batch;
    const ha_attention shape = ha_softmax_shape(mixer);
    const int q = c->num_heads * c->head_dim, kv = c->num_kv_heads * c->head_dim, width = q + 2 * kv;
    const size_t mark = ha_arena_mark(pass->arena), rows = (size_t)batch->rows;
    float *qkv, *mixed, *log_sum;
    ha_keys *keys;
    HA_PUSH(qkv, pass->arena, rows * (size_t)width);
    HA_PUSH(mixed, pass->arena, rows * (size_t)q);
    HA_PUSH(log_sum, pass->arena, rows * (size_t)c->num_heads);
    HA_PUSH(keys, pass->arena, (size_t)batch->n_seq);
    ha_project_in(mixer, pass, x, qkv, NULL);
    ha_rotate(mixer, pass, c->num_heads + c->num_kv_heads, 1.0f, qkv, width);
    for (int s = 0; s < batch->n_seq; s++) {
        const float *own = qkv + (ptrdiff_t)batch->offset[s] * width + q;
        keys[s] = (ha_keys){.k = own,
                            .v = own + kv,
                            .row = width,
                            .head_stride = c->head_dim,
                            .length = batch->offset[s + 1] - batch->offset[s]};
    }
    const ha_attention_out to = {ha_rows_to(mixed, q), log_sum, NULL};
    HA_TRY(ha_attention_forward(&shape, batch, ha_rows_of(qkv, width), keys, &to, pass->arena));
    const ha_reach_in in = {.queries = ha_rows_of(qkv, width),
                            .keys = ha_rows_of(qkv + q, width),
                            .values = ha_rows_of(qkv + q + kv, width),
                            .log_sum = log_sum,
                            .every = EVERY};
    HA_TRY(ha_attention_reach(&shape, batch, &in, sums, pass->arena));
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}
