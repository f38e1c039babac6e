/* linear_attention, in chunks, with states in and out. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "ref/ref.h"

/* The shape and options of the call. */
static ha_linear_attention shape_of(const ha_call *call)
{
    return (ha_linear_attention){.heads = ha_size(call, 'H'),
                                 .kv_heads = ha_size(call, 'K'),
                                 .features = ha_size(call, 'F'),
                                 .dim = ha_size(call, 'd'),
                                 .lag = (int)ha_argument(call, "lag")->whole,
                                 .bidirectional = !ha_argument(call, "causal")->whole};
}

/* Heads that share key heads, and the lag. */
static void check_heads(ha_call *call)
{
    const int heads = ha_size(call, 'H'), key_heads = ha_size(call, 'K');
    ha_call_require(call, heads % key_heads == 0, "e has %d heads, allowed are divisors of f's %d", key_heads, heads);
    ha_call_require_span(call, "lag", ha_argument(call, "lag")->whole, 0);
}

/* Also sets 'P', the size of a head's state. */
static void check_state(ha_call *call)
{
    PyObject *initial = ha_argument(call, "initial_state")->object;
    const int with_state = (initial && initial != Py_None) || ha_argument(call, "return_state")->given;
    const int lag = (int)ha_argument(call, "lag")->whole;
    check_heads(call);
    ha_call_require(call, lag == 0 || !with_state, "lag is %d, allowed with a state is 0", lag);
    ha_call_require(call, ha_argument(call, "causal")->given || !with_state,
                    "causal is False, allowed with a state is True");
    ha_call_state_size(call, (int64_t)ha_size(call, 'F') * (ha_size(call, 'd') + 1));
}

/* The call's queries, and the keys and values of each sequence. */
static ha_status operands_of(const ha_call *call, const ha_linear_attention *a, ha_linear_attention_in *in)
{
    const ha_batch *batch = &call->batch;
    const float *e = ha_data(call, "e"), *v = ha_data(call, "v");
    const ptrdiff_t key_width = (ptrdiff_t)a->kv_heads * a->features, value_width = (ptrdiff_t)a->kv_heads * a->dim;
    ha_rows *keys, *values;
    HA_PUSH(keys, call->arena, (size_t)batch->n_seq);
    HA_PUSH(values, call->arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++) {
        keys[s] = ha_rows_of(e + batch->offset[s] * key_width, key_width);
        values[s] = ha_rows_of(v + batch->offset[s] * value_width, value_width);
    }
    *in = (ha_linear_attention_in){ha_rows_of(ha_data(call, "f"), (ptrdiff_t)a->heads * a->features), keys, values};
    return HA_OK;
}

/* num [T,H,d], den [T,H], and the states [S,K,P] where they are asked for */
static ha_status linear_attention_fast(const ha_call *call)
{
    const float *initial = ha_data(call, "initial_state");
    float *state = NULL;
    if ((initial || call->out[2]) && !(state = ha_call_states(call, call->out[2], initial, "S K P")))
        return HA_NO_MEMORY;
    const ha_linear_attention a = shape_of(call);
    const ha_linear_attention_out out = {ha_rows_to(call->out[0], (ptrdiff_t)a.heads * a.dim), call->out[1]};
    ha_linear_attention_in in;
    float **pointers;
    HA_TRY(operands_of(call, &a, &in));
    HA_TRY(ha_by_sequence(call->batch.n_seq, ha_call_count(call, "K P"), state, &pointers, call->arena));
    return ha_linear_attention_forward(&a, &call->batch, &in, pointers, &out, NULL, call->arena);
}

/* The same in float64. */
static ha_status linear_attention_naive(const ha_call *call)
{
    const ha_linear_attention a = shape_of(call);
    const ref_linear_shape shape = {a.heads, a.kv_heads, a.features, a.dim, a.lag, a.bidirectional};
    double *state = ha_call_states(call, call->out[2], ha_data(call, "initial_state"), "S K P");
    if (!state)
        return HA_NO_MEMORY;
    const ref_attention_in in = {ha_data(call, "f"), ha_data(call, "e"), ha_data(call, "v")};
    ref_linear_attention(&shape, &call->batch, &in, state, call->out[0], call->out[1]);
    return HA_OK;
}

static const ha_operation linear_attention = {
    .name = "linear_attention",
    .doc = "num_i = sum_j (f_i . e_j) v_j and den_i = sum_j f_i . e_j over the keys j <= i - lag, or, not causal, |i - "
           "j| >= lag: f [T,H,F], e [T,KV,F],\n"
           "v [T,KV,d] -> num [T,H,d], den [T,H]. A state [sequences,KV,F*(d+1)] is the sum of e_j v_j^T [F,d], then "
           "of e_j [F].",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("f", "T H F"), HA_PARAM_ARRAY("e", "T K F"), HA_PARAM_ARRAY("v", "T K d"),
                  HA_PARAM(HA_INT, "lag", "0"), HA_PARAM(HA_FLAG, "causal", "True"), HA_PARAM_LENGTHS,
                  HA_PARAM_OPTIONAL("initial_state", "S K P"), HA_PARAM(HA_FLAG, "return_state", "False")},
    .result = {{"T H d"}, {"T H"}, {"S K P", .when = "return_state"}},
    .derived = "P",
    .check = check_state,
    .fast = linear_attention_fast,
    .naive = linear_attention_naive,
};
HA_OPERATION(linear_attention)

/* dnum [T,H,d], dden [T,H] -> df [T,H,F], de [T,K,F], dv [T,K,d] */
static ha_status linear_attention_backward(const ha_call *call)
{
    const ha_linear_attention a = shape_of(call);
    const ptrdiff_t query_width = (ptrdiff_t)a.heads * a.features, key_width = (ptrdiff_t)a.kv_heads * a.features;
    const ptrdiff_t out_width = (ptrdiff_t)a.heads * a.dim, value_width = (ptrdiff_t)a.kv_heads * a.dim;
    ha_linear_attention_in in;
    float *num, *den, *saved;
    HA_TRY(operands_of(call, &a, &in));
    HA_PUSH(num, call->arena, ha_call_count(call, "T H d"));
    HA_PUSH(den, call->arena, ha_call_count(call, "T H"));
    HA_PUSH(saved, call->arena, ha_linear_attention_states(&a, &call->batch));
    const ha_linear_attention_out out = {ha_rows_to(num, out_width), den};
    const ha_linear_attention_upstream upstream = {ha_rows_of(ha_data(call, "dnum"), out_width), ha_data(call, "dden")};
    const ha_linear_attention_gradient gradient = {ha_rows_to(call->out[0], query_width),
                                                   ha_rows_to(call->out[1], key_width),
                                                   ha_rows_to(call->out[2], value_width)};
    HA_TRY(ha_linear_attention_forward(&a, &call->batch, &in, NULL, &out, saved, call->arena));
    return ha_linear_attention_backward(&a, &call->batch, &in, saved, &upstream, &gradient, call->arena);
}

static const ha_operation linear_attention_vjp = {
    .name = "linear_attention_vjp",
    .doc = "dnum [T,H,d], dden [T,H] -> df, de, dv.",
    .positional = 5,
    .parameter = {HA_PARAM_ARRAY("f", "T H F"), HA_PARAM_ARRAY("e", "T K F"), HA_PARAM_ARRAY("v", "T K d"),
                  HA_PARAM_ARRAY("dnum", "T H d"), HA_PARAM_ARRAY("dden", "T H"), HA_PARAM(HA_INT, "lag", "0"),
                  HA_PARAM(HA_FLAG, "causal", "True"), HA_PARAM_LENGTHS},
    .result = {{"T H F"}, {"T K F"}, {"T K d"}},
    .check = check_heads,
    .fast = linear_attention_backward,
};
HA_OPERATION(linear_attention_vjp)

const ha_entry ha_ops_linear_attention[] = {HA_ENTRY(linear_attention), HA_ENTRY(linear_attention_vjp), {0}};
