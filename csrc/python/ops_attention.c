/* softmax_attention: tiled softmax attention over grouped heads, with windows and sinks. */
#include "python/operation_tables.h"

#include <math.h>
#include <string.h>

#include "ops/ops.h"
#include "ref/ref.h"

/* Heads that share key heads, window and sinks. */
static void check_heads(ha_call *call)
{
    ha_call_require_groups(call);
    ha_call_require_span(call, "window", ha_argument(call, "window")->whole, 0);
    ha_call_require_span(call, "sinks", ha_argument(call, "sinks")->whole, 0);
}

/* Rows of sequence s. */
static int length_of(const ha_batch *batch, int s)
{
    return batch->offset[s + 1] - batch->offset[s];
}

/* Also sets call->keys: the sequences of k and v [L,K,d], each with at least the tokens of its
 * queries. */
static void check_keys(ha_call *call)
{
    PyObject *lengths = ha_argument(call, "lengths")->object, *own = ha_argument(call, "key_lengths")->object;
    check_heads(call);
    ha_call_lengths(call, own && own != Py_None ? own : lengths, "key_lengths", ha_size(call, 'L'), &call->keys);
    ha_call_require(call, call->batch.n_seq == call->keys.n_seq, "key_lengths has %d entries, expected %d",
                    call->keys.n_seq, call->batch.n_seq);
    for (int s = 0; !call->failed && s < call->batch.n_seq; s++) {
        const int queries = length_of(&call->batch, s), keys = length_of(&call->keys, s);
        ha_call_require(
            call, keys >= queries,
            "key_lengths[%d] is %d, allowed are lengths[%d] = %d or more: the queries are the last tokens of the keys",
            s, keys, s, queries);
    }
}

/* What the logits are multiplied with: as passed, or dim^-1/2. */
static double scale_of(const ha_call *call)
{
    const ha_value *scale = ha_argument(call, "scale");
    return scale->given ? scale->number : 1.0 / sqrt(ha_size(call, 'd'));
}

/* The shape and options of the call, in float32. */
static ha_attention attention_of(const ha_call *call)
{
    return (ha_attention){.heads = ha_size(call, 'H'),
                          .kv_heads = ha_size(call, 'K'),
                          .dim = ha_size(call, 'd'),
                          .causal = (int)ha_argument(call, "causal")->whole,
                          .window = (int)ha_argument(call, "window")->whole,
                          .sinks = (int)ha_argument(call, "sinks")->whole,
                          .scale = (float)scale_of(call)};
}

/* out [T,H,d], log_sum and max [T,H] or NULL; the keys of sequence s are rows key_offset[s] .. of k
 * and v */
static ha_status attend(const ha_call *call, const ha_attention *shape, const int32_t *key_offset, float *out,
                        float *log_sum, float *max)
{
    const float *k = ha_data(call, "k"), *v = ha_data(call, "v");
    const ha_batch *batch = &call->batch;
    const ptrdiff_t row = (ptrdiff_t)shape->kv_heads * shape->dim, wide = (ptrdiff_t)shape->heads * shape->dim;
    ha_keys *keys;
    HA_PUSH(keys, call->arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++) {
        const int length = key_offset[s + 1] - key_offset[s];
        keys[s] = (ha_keys){.k = k + key_offset[s] * row,
                            .v = v + key_offset[s] * row,
                            .row = row,
                            .head_stride = shape->dim,
                            .length = length,
                            .past = length - length_of(batch, s)};
    }
    const ha_attention_out to = {ha_rows_to(out, wide), log_sum, max};
    return ha_attention_forward(shape, batch, ha_rows_of(ha_data(call, "q"), wide), keys, &to, call->arena);
}

/* out [T,H,d], and with return_stats the log-sum-exp and the largest logit [T,H] */
static ha_status attention_fast(const ha_call *call)
{
    const ha_attention shape = attention_of(call);
    return attend(call, &shape, call->keys.offset, call->out[0], call->out[1], call->out[2]);
}

/* The same in float64. */
static ha_status attention_naive(const ha_call *call)
{
    const ha_attention fast = attention_of(call);
    const ref_attention shape = {fast.heads,  fast.kv_heads, fast.dim,      fast.causal,
                                 fast.window, fast.sinks,    scale_of(call)};
    const ref_attention_in in = {ha_data(call, "q"), ha_data(call, "k"), ha_data(call, "v")};
    const ref_attention_out out = {call->out[0], call->out[1], call->out[2]};
    ref_softmax_attention(&shape, &call->batch, call->keys.offset, &in, &out);
    return HA_OK;
}

static const ha_operation softmax_attention = {
    .name = "softmax_attention",
    .doc = "softmax(scale q k^T) v: q [T,H,d], k, v [L,KV,d] -> [T,H,d]; scale None is d^-1/2. Query i sees key j when "
           "j <= i\n"
           "(causal) and, with a window, when also |i - j| < window or j < sinks. A sequence with more keys than "
           "queries\n"
           "(key_lengths) continues one: its queries are the last tokens. return_stats adds the log-sum-exp and the "
           "largest\n"
           "logit, each [T,H].",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("q", "T H d"), HA_PARAM_ARRAY("k", "L K d"), HA_PARAM_ARRAY("v", "L K d"),
                  HA_PARAM_LENGTHS, HA_PARAM(HA_OBJECT, "key_lengths", "None"), HA_PARAM(HA_NUMBER, "scale", "None"),
                  HA_PARAM(HA_FLAG, "causal", "True"), HA_PARAM(HA_INT, "window", "0"), HA_PARAM(HA_INT, "sinks", "0"),
                  HA_PARAM(HA_FLAG, "return_stats", "False")},
    .result = {{"T H d"}, {"T H", .when = "return_stats"}, {"T H", .when = "return_stats"}},
    .check = check_keys,
    .fast = attention_fast,
    .naive = attention_naive,
};
HA_OPERATION(softmax_attention)

/* The backward pass takes q, k, v as columns of one matrix [rows, width], as a joined projection
 * leaves them. */
typedef struct {
    float *data, *k, *v;
    ptrdiff_t width, q_columns, kv_columns;
} joined;

/* Room on the arena for one such matrix. */
static ha_status join(const ha_attention *shape, int rows, joined *columns, ha_arena *arena)
{
    columns->q_columns = (ptrdiff_t)shape->heads * shape->dim;
    columns->kv_columns = (ptrdiff_t)shape->kv_heads * shape->dim;
    columns->width = columns->q_columns + 2 * columns->kv_columns;
    HA_PUSH(columns->data, arena, (size_t)rows * (size_t)columns->width);
    columns->k = columns->data + columns->q_columns;
    columns->v = columns->k + columns->kv_columns;
    return HA_OK;
}

/* A block of columns, [rows, columns] within rows of `from_row` and `to_row` floats. */
static void copy_columns(int rows, ptrdiff_t columns, const float *from, ptrdiff_t from_row, float *to,
                         ptrdiff_t to_row)
{
    for (int r = 0; r < rows; r++)
        memcpy(to + r * to_row, from + r * from_row, (size_t)columns * sizeof *to);
}

/* dout [T,H,d], and dlse, dmax [T,H] or NULL -> dq [T,H,d], dk, dv [T,K,d] */
static ha_status attention_backward(const ha_call *call)
{
    const ha_attention shape = attention_of(call);
    const ha_batch *batch = &call->batch;
    const int rows = batch->rows;
    const size_t heads = ha_call_count(call, "T H");
    const float *dout = ha_data(call, "dout"), *dlse = ha_data(call, "dlse"), *dmax = ha_data(call, "dmax");
    joined x, dx;
    float *out, *log_sum, *max, *delta;
    HA_TRY(join(&shape, rows, &x, call->arena));
    HA_TRY(join(&shape, rows, &dx, call->arena));
    HA_PUSH(out, call->arena, heads * (size_t)shape.dim);
    HA_PUSH(log_sum, call->arena, heads);
    HA_PUSH(max, call->arena, heads);
    HA_PUSH(delta, call->arena, heads);
    HA_TRY(attend(call, &shape, batch->offset, out, log_sum, max));
    ha_dot_per_head(rows, shape.heads, shape.dim, dout, x.q_columns, out, x.q_columns, delta);
    for (size_t i = 0; dlse && i < heads; i++)
        delta[i] -= dlse[i];
    copy_columns(rows, x.q_columns, ha_data(call, "q"), x.q_columns, x.data, x.width);
    copy_columns(rows, x.kv_columns, ha_data(call, "k"), x.kv_columns, x.k, x.width);
    copy_columns(rows, x.kv_columns, ha_data(call, "v"), x.kv_columns, x.v, x.width);
    const ha_attention_saved saved = {.queries = ha_rows_of(x.data, x.width),
                                      .keys = ha_rows_of(x.k, x.width),
                                      .values = ha_rows_of(x.v, x.width),
                                      .key_offset = batch->offset,
                                      .log_sum = log_sum,
                                      .largest = max};
    const ha_attention_upstream upstream = {ha_rows_of(dout, x.q_columns), delta, dmax};
    const ha_attention_gradient gradient = {ha_rows_to(dx.data, dx.width), ha_rows_to(dx.k, dx.width),
                                            ha_rows_to(dx.v, dx.width)};
    HA_TRY(ha_attention_backward(&shape, batch, &saved, &upstream, &gradient, call->arena));
    copy_columns(rows, x.q_columns, dx.data, x.width, call->out[0], x.q_columns);
    copy_columns(rows, x.kv_columns, dx.k, x.width, call->out[1], x.kv_columns);
    copy_columns(rows, x.kv_columns, dx.v, x.width, call->out[2], x.kv_columns);
    return HA_OK;
}

static const ha_operation softmax_attention_vjp = {
    .name = "softmax_attention_vjp",
    .doc = "dout [T,H,d], and dlse, dmax [T,H] of return_stats -> dq, dk, dv. Keys are those of the queries' own "
           "tokens.",
    .positional = 6,
    .parameter = {HA_PARAM_ARRAY("q", "T H d"), HA_PARAM_ARRAY("k", "T K d"), HA_PARAM_ARRAY("v", "T K d"),
                  HA_PARAM_ARRAY("dout", "T H d"), HA_PARAM_OPTIONAL("dlse", "T H"), HA_PARAM_OPTIONAL("dmax", "T H"),
                  HA_PARAM_LENGTHS, HA_PARAM(HA_NUMBER, "scale", "None"), HA_PARAM(HA_FLAG, "causal", "True"),
                  HA_PARAM(HA_INT, "window", "0"), HA_PARAM(HA_INT, "sinks", "0")},
    .result = {{"T H d"}, {"T K d"}, {"T K d"}},
    .check = check_heads,
    .fast = attention_backward,
};
HA_OPERATION(softmax_attention_vjp)

const ha_entry ha_ops_attention[] = {HA_ENTRY(softmax_attention), HA_ENTRY(softmax_attention_vjp), {0}};
