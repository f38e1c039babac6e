/* Operations along a sequence: short_conv, with states in and out, and pool. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "ref/ref.h"

/* ---- short_conv ------------------------------------------------------------------------------ */

/* Sets 'P', the inputs that a state holds. */
static void check_taps(ha_call *call)
{
    const int taps = ha_size(call, 'w');
    ha_call_require(call, taps >= 2 && taps <= HA_MAX_CONV, "weight has %d taps, allowed are 2 to %d", taps,
                    HA_MAX_CONV);
    call->size['P' - 'A'] = taps - 1;
}

/* y [T,d] of x [T,d] and weight [d,w]; states [S,P,d] */
static ha_status short_conv_fast(const ha_call *call)
{
    const int dim = ha_size(call, 'd');
    float *state = ha_call_states(call, call->out[1], ha_data(call, "initial_state"), "S P d"), **states;
    if (!state)
        return HA_NO_MEMORY;
    HA_TRY(ha_by_sequence(call->batch.n_seq, ha_call_count(call, "P d"), state, &states, call->arena));
    const ha_short_conv conv = {dim, ha_size(call, 'w'), ha_data(call, "weight")};
    ha_short_conv_forward(&conv, &call->batch, ha_rows_of(ha_data(call, "x"), dim), states,
                          ha_rows_to(call->out[0], dim));
    return HA_OK;
}

/* The same in float64. */
static ha_status short_conv_naive(const ha_call *call)
{
    double *state = ha_call_states(call, call->out[1], ha_data(call, "initial_state"), "S P d");
    if (!state)
        return HA_NO_MEMORY;
    ref_short_conv(&call->batch, ha_size(call, 'd'), ha_size(call, 'w'), ha_data(call, "x"), ha_data(call, "weight"),
                   state, call->out[0]);
    return HA_OK;
}

static const ha_operation short_conv = {
    .name = "short_conv",
    .doc = "Depthwise causal convolution: y_t = sum_j weight[:,j] x_{t-w+1+j}, x [T,d],\n"
           "weight [d,w] with 2 to 16 taps -> [T,d]. A state [sequences,w-1,d] holds the last inputs.",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d w"), HA_PARAM_LENGTHS,
                  HA_PARAM_OPTIONAL("initial_state", "S P d"), HA_PARAM(HA_FLAG, "return_state", "False")},
    .result = {{"T d"}, {"S P d", .when = "return_state"}},
    .derived = "P",
    .check = check_taps,
    .fast = short_conv_fast,
    .naive = short_conv_naive,
};
HA_OPERATION(short_conv)

/* dy [T,d] -> dx [T,d], dweight [d,w] */
static ha_status short_conv_backward(const ha_call *call)
{
    const int dim = ha_size(call, 'd');
    const ha_short_conv conv = {dim, ha_size(call, 'w'), ha_data(call, "weight")};
    ha_short_conv_backward(&conv, &call->batch, ha_rows_of(ha_data(call, "x"), dim),
                           ha_rows_of(ha_data(call, "dy"), dim), ha_rows_to(call->out[0], dim), call->out[1]);
    return HA_OK;
}

static const ha_operation short_conv_vjp = {
    .name = "short_conv_vjp",
    .doc = "dy [T,d] -> dx, dweight.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d w"), HA_PARAM_ARRAY("dy", "T d"),
                  HA_PARAM_LENGTHS},
    .result = {{"T d"}, {"d w"}},
    .check = check_taps,
    .fast = short_conv_backward,
};
HA_OPERATION(short_conv_vjp)

/* ---- pool ------------------------------------------------------------------------------------ */

/* The shape of the projection: n slots over N rows. */
static ha_pool pool_of(const ha_call *call)
{
    return (ha_pool){ha_size(call, 'n'), ha_size(call, 'N'), ha_size(call, 'd'), ha_data(call, "weight")};
}

/* Sets 'P', the slots that the sequences fill. */
static void check_slots(ha_call *call)
{
    const ha_pool shape = pool_of(call);
    const ha_batch *batch = &call->batch;
    int64_t slots = 0;
    ha_call_require(call, shape.slots <= shape.length, "weight has %d slots, allowed are 1 to its length, %d",
                    shape.slots, shape.length);
    for (int s = 0; !call->failed && s < batch->n_seq; s++) {
        const int rows = batch->offset[s + 1] - batch->offset[s];
        ha_call_require(call, rows <= shape.length, "lengths[%d] is %d, allowed are 1 to weight's %d", s, rows,
                        shape.length);
        slots += ha_pool_slots(&shape, rows);
    }
    ha_call_state_size(call, slots);
}

/* y [P,d] of x [T,d] and weight [n,N] */
static ha_status pool_fast(const ha_call *call)
{
    const ha_pool shape = pool_of(call);
    const int dim = ha_size(call, 'd');
    return ha_pool_forward(&shape, &call->batch, ha_rows_of(ha_data(call, "x"), dim), call->out[0], call->arena);
}

/* The same in float64. */
static ha_status pool_naive(const ha_call *call)
{
    ref_pool(&call->batch, ha_size(call, 'd'), ha_size(call, 'n'), ha_size(call, 'N'), ha_data(call, "x"),
             ha_data(call, "weight"), call->out[0]);
    return HA_OK;
}

static const ha_operation pool = {
    .name = "pool",
    .doc =
        "Linformer's projection along the sequence (Wang et al. 2020): weighted sums of the rows of each sequence, x "
        "[T,d],\nweight [n,N] for n slots and sequences of up to N rows. A sequence of t rows "
        "fills the slots s with s N // n < t,\nthe last of them scaled up by the part of its stretch "
        "s N // n .. (s + 1) N // n that is missing -> [slots of all sequences,d].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "n N"), HA_PARAM_LENGTHS},
    .result = {{"P d"}},
    .derived = "P",
    .check = check_slots,
    .fast = pool_fast,
    .naive = pool_naive,
};
HA_OPERATION(pool)

/* dy [P,d] -> dx [T,d], dweight [n,N] */
static ha_status pool_backward(const ha_call *call)
{
    const ha_pool shape = pool_of(call);
    const int dim = ha_size(call, 'd');
    return ha_pool_backward(&shape, &call->batch, ha_rows_of(ha_data(call, "x"), dim), ha_data(call, "dy"),
                            ha_rows_to(call->out[0], dim), call->out[1], call->arena);
}

static const ha_operation pool_vjp = {
    .name = "pool_vjp",
    .doc = "dy [slots,d] -> dx, dweight.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "n N"), HA_PARAM_ARRAY("dy", "P d"),
                  HA_PARAM_LENGTHS},
    .result = {{"T d"}, {"n N"}},
    .derived = "P",
    .check = check_slots,
    .fast = pool_backward,
};
HA_OPERATION(pool_vjp)

const ha_entry ha_ops_sequence[] = {
    HA_ENTRY(short_conv), HA_ENTRY(short_conv_vjp), HA_ENTRY(pool), HA_ENTRY(pool_vjp), {0}};
