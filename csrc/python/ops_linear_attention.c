/* linear_attention, in chunks, with states in and out. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "ref/ref.h"

static ha_linear_attention shape_of(const ha_call *call)
{
    return (ha_linear_attention){.heads = ha_size(call, 'H'),
                                 .kv_heads = ha_size(call, 'K'),
                                 .features = ha_size(call, 'F'),
                                 .dim = ha_size(call, 'd'),
                                 .lag = (int)ha_argument(call, "lag")->whole,
                                 .bidirectional = !ha_argument(call, "causal")->whole};
}

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

/* num [T,H,d] and den [T,H]; state [S,K,P], updated, or NULL; states: NULL, or room for the
 * backward pass */
static ha_status attend(const ha_call *call, float *state, float *num, float *den, float *states)
{
    const ha_linear_attention a = shape_of(call);
    const ha_batch *batch = &call->batch;
    const float *e = ha_data(call, "e"), *v = ha_data(call, "v"), **e_rows, **v_rows;
    float **pointers;
    const ptrdiff_t e_row = (ptrdiff_t)a.kv_heads * a.features, v_row = (ptrdiff_t)a.kv_heads * a.dim;
    HA_PUSH(e_rows, call->arena, (size_t)batch->n_seq);
    HA_PUSH(v_rows, call->arena, (size_t)batch->n_seq);
    for (int s = 0; s < batch->n_seq; s++) {
        e_rows[s] = e + batch->offset[s] * e_row;
        v_rows[s] = v + batch->offset[s] * v_row;
    }
    HA_TRY(ha_by_sequence(batch->n_seq, ha_call_count(call, "K P"), state, &pointers, call->arena));
    return ha_linear_attention_forward(&a, batch, ha_data(call, "f"), (ptrdiff_t)a.heads * a.features, e_rows, e_row,
                                       v_rows, v_row, pointers, num, (ptrdiff_t)a.heads * a.dim, den, states,
                                       call->arena);
}

static ha_status linear_attention_fast(const ha_call *call)
{
    const float *initial = ha_data(call, "initial_state");
    float *state = NULL;
    if ((initial || call->out[2]) && !(state = ha_call_states(call, call->out[2], initial, "S K P")))
        return HA_NO_MEMORY;
    return attend(call, state, call->out[0], call->out[1], NULL);
}

static ha_status linear_attention_naive(const ha_call *call)
{
    const ha_linear_attention a = shape_of(call);
    const ref_linear_shape shape = {a.heads, a.kv_heads, a.features, a.dim, a.lag, a.bidirectional};
    double *state = ha_call_states(call, call->out[2], ha_data(call, "initial_state"), "S K P");
    if (!state)
        return HA_NO_MEMORY;
    ref_linear_attention(&shape, &call->batch, ha_data(call, "f"), ha_data(call, "e"), ha_data(call, "v"), state,
                         call->out[0], call->out[1]);
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
    const ptrdiff_t f_row = (ptrdiff_t)a.heads * a.features, e_row = (ptrdiff_t)a.kv_heads * a.features;
    const ptrdiff_t num_row = (ptrdiff_t)a.heads * a.dim, v_row = (ptrdiff_t)a.kv_heads * a.dim;
    float *num, *den, *states;
    HA_PUSH(num, call->arena, ha_call_count(call, "T H d"));
    HA_PUSH(den, call->arena, ha_call_count(call, "T H"));
    HA_PUSH(states, call->arena, ha_linear_attention_states(&a, &call->batch));
    HA_TRY(attend(call, NULL, num, den, states));
    return ha_linear_attention_backward(&a, &call->batch, ha_data(call, "f"), f_row, ha_data(call, "e"), e_row,
                                        ha_data(call, "v"), v_row, states, ha_data(call, "dnum"), num_row,
                                        ha_data(call, "dden"), call->out[0], f_row, call->out[1], e_row, call->out[2],
                                        v_row, call->arena);
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
