/* recurrence and gated_delta, a case of it, with states in and out. */
#include "python/operation_tables.h"

#include <string.h>

#include "ops/ops.h"
#include "ref/ref.h"

/* How an error calls an operand. */
static const char *given(const void *data)
{
    return data ? "given" : "None";
}

/* Heads of queries for each head of states. */
static int group_of(const ha_call *call)
{
    return ha_size(call, 'H') / ha_size(call, 'K');
}

/* Operands that go together; sets the size of a state of one head, which must fit. */
static void check_operands(ha_call *call)
{
    ha_call_require_groups(call);
    const void *a = ha_data(call, "a"), *b = ha_data(call, "b"), *beta = ha_data(call, "beta");
    ha_call_require(call, !a == !b && !(a && beta),
                    "a, b and beta are %s, %s and %s, allowed are none, a with b, or beta", given(a), given(b),
                    given(beta));
    ha_call_require(call, !ha_data(call, "gv") || !(ha_data(call, "g") || a || beta),
                    "gv is given with g, beta or a and b, allowed is gv without them");
    ha_call_state_size(call, (int64_t)ha_size(call, 'k') * ha_size(call, 'v'));
}

/* Whose decay g is: one a head [T,K], one a channel of k [T,K,k], or, passed as gv, one a channel
 * of v [T,K,v]. */
static ha_gate gate_of(const ha_call *call)
{
    const ha_value *g = ha_argument(call, "g");
    if (ha_data(call, "gv"))
        return HA_GATE_VALUE;
    if (!g->data)
        return HA_GATE_NONE;
    return strcmp(g->shape, "T K") == 0 ? HA_GATE_HEAD : HA_GATE_CHANNEL;
}

/* The shape of the recurrence. */
static ha_recurrence shape_of(const ha_call *call)
{
    return (ha_recurrence){ha_size(call, 'K'), ha_size(call, 'k'), ha_size(call, 'v'), gate_of(call), group_of(call)};
}

/* The operands in float32; NULL for those that are not given. */
static ha_recurrence_in operands_of(const ha_call *call)
{
    return (ha_recurrence_in){.queries = ha_data(call, "q"),
                              .keys = ha_data(call, "k"),
                              .values = ha_data(call, "v"),
                              .log_decay = gate_of(call) == HA_GATE_VALUE ? ha_data(call, "gv") : ha_data(call, "g"),
                              .beta = ha_data(call, "beta"),
                              .erase_write = ha_data(call, "a"),
                              .erase_read = ha_data(call, "b"),
                              .query_stride = (ptrdiff_t)ha_size(call, 'H') * ha_size(call, 'k'),
                              .key_stride = (ptrdiff_t)ha_size(call, 'K') * ha_size(call, 'k'),
                              .value_stride = (ptrdiff_t)ha_size(call, 'K') * ha_size(call, 'v')};
}

/* Floats of a row of outputs. */
static ptrdiff_t out_stride(const ha_call *call)
{
    return (ptrdiff_t)ha_size(call, 'H') * ha_size(call, 'v');
}

/* Pointers [n_seq] to states [S,K,k,v]; NULL for NULL. */
static ha_status pointers_to(const ha_call *call, float *states, float ***pointers)
{
    return ha_by_sequence(call->batch.n_seq, ha_call_count(call, "K k v"), states, pointers, call->arena);
}

/* out [T,H,v]; final: NULL, or the states at the end; changes [T,K,v] and states: NULL, or room for
 * the backward pass */
static ha_status run(const ha_call *call, float *final, float *out, float *changes, float *states)
{
    const ha_recurrence shape = shape_of(call);
    const ha_recurrence_in in = operands_of(call);
    float **from, **to;
    HA_TRY(pointers_to(call, ha_data(call, "initial_state"), &from));
    HA_TRY(pointers_to(call, final, &to));
    const ha_recurrence_saved saved = {changes, states};
    return ha_recurrence_forward(&shape, &call->batch, &in, from, to, ha_rows_to(out, out_stride(call)), &saved,
                                 call->arena);
}

/* out [T,H,v], and the final states [S,K,k,v] where they are asked for */
static ha_status recurrence_fast(const ha_call *call)
{
    return run(call, call->out[1], call->out[0], NULL, NULL);
}

/* The same in float64; reverse: from the last token to the first. */
static ha_status recurrence_naive(const ha_call *call)
{
    const ref_recurrence_shape shape = {.heads = ha_size(call, 'K'),
                                        .key_dim = ha_size(call, 'k'),
                                        .value_dim = ha_size(call, 'v'),
                                        .channels = gate_of(call) == HA_GATE_CHANNEL,
                                        .reverse = (int)ha_argument(call, "reverse")->whole,
                                        .group = group_of(call)};
    const ref_recurrence_in in = {ha_data(call, "q"),    ha_data(call, "k"), ha_data(call, "v"), ha_data(call, "g"),
                                  ha_data(call, "beta"), ha_data(call, "a"), ha_data(call, "b"), ha_data(call, "gv")};
    double *state = ha_call_states(call, call->out[1], ha_data(call, "initial_state"), "S K k v");
    if (!state)
        return HA_NO_MEMORY;
    ref_recurrence(&shape, &call->batch, &in, state, call->out[0]);
    return HA_OK;
}

#define PARAM_G                                                                     \
    {                                                                               \
        "g", .fallback = "None", .kind = HA_ARRAY, .shape = "T K", .other = "T K k" \
    }

static const ha_operation recurrence = {
    .name = "recurrence",
    .doc = "The linear recurrence of every mixer with a state of fixed size: per head S [dk,dv], u_t = S_{t-1}^T b_t,\n"
           "S_t = diag(exp(g_t)) S_{t-1} + a_t u_t^T + k_t v_t^T, o_t = S_t^T q_t. Without a and b nothing is erased; "
           "with\n"
           "beta instead it is the delta rule, S_t = diag(exp(g_t)) S_{t-1} + beta_t k_t (v_t - u_t)^T, b = exp(g) "
           "k.\n"
           "gv in the place of all of them decays the channels of v: S_t = S_{t-1} diag(exp(gv_t)) + k_t v_t^T.\n"
           "q [T,H,dk], k, a, b [T,K,dk], v [T,K,dv], g <= 0 [T,K] or [T,K,dk] (None: no decay), gv <= 0 [T,K,dv], "
           "beta [T,K]\n"
           "-> [T,H,dv]; states [sequences,K,dk,dv], None: zero. H / K heads of q, side by side, read one state.",
    .naive_doc = "As ops.recurrence; reverse: from the last token to the first.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("q", "T H k"),
                  HA_PARAM_ARRAY("k", "T K k"),
                  HA_PARAM_ARRAY("v", "T K v"),
                  PARAM_G,
                  HA_PARAM_OPTIONAL("beta", "T K"),
                  HA_PARAM_OPTIONAL("a", "T K k"),
                  HA_PARAM_OPTIONAL("b", "T K k"),
                  HA_PARAM_OPTIONAL("gv", "T K v"),
                  HA_PARAM_LENGTHS,
                  HA_PARAM_OPTIONAL("initial_state", "S K k v"),
                  HA_PARAM(HA_FLAG, "return_state", "False"),
                  {"reverse", .fallback = "False", .kind = HA_FLAG, .naive_only = 1}},
    .result = {{"T H v"}, {"S K k v", .when = "return_state"}},
    .check = check_operands,
    .fast = recurrence_fast,
    .naive = recurrence_naive,
};
HA_OPERATION(recurrence)

static const ha_operation gated_delta = {
    .name = "gated_delta",
    .doc = "Gated delta rule (Yang, Kautz and Hatamizadeh 2024), per head with a state S [dk,dv]:\n"
           "S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - exp(g_t) S_{t-1}^T k_t)^T, o_t = S_t^T q_t.\n"
           "q [T,H,dk], k [T,K,dk], v [T,K,dv], g <= 0 and beta [T,K] -> [T,H,dv]; states [sequences,K,dk,dv], None: "
           "zero.\nH / K heads of q, side by side, read one state.",
    .positional = 5,
    .parameter = {HA_PARAM_ARRAY("q", "T H k"), HA_PARAM_ARRAY("k", "T K k"), HA_PARAM_ARRAY("v", "T K v"),
                  HA_PARAM_ARRAY("g", "T K"), HA_PARAM_ARRAY("beta", "T K"), HA_PARAM_LENGTHS,
                  HA_PARAM_OPTIONAL("initial_state", "S K k v"), HA_PARAM(HA_FLAG, "return_state", "False")},
    .result = {{"T H v"}, {"S K k v", .when = "return_state"}},
    .check = check_operands,
    .fast = recurrence_fast,
    .naive = recurrence_naive,
};
HA_OPERATION(gated_delta)

/* dout [T,H,v], and `dstate` [S,K,k,v] of the final states or None; state_gradient: of the final
 * states on entry, of the initial ones on return */
static ha_status backward(const ha_call *call, const ha_recurrence_out *gradient, float *state_gradient)
{
    const ha_recurrence shape = shape_of(call);
    const ha_recurrence_in in = operands_of(call);
    const float *final = ha_data(call, "dstate");
    float *out, *changes, *states, **state_gradients;
    HA_PUSH(out, call->arena, ha_call_count(call, "T H v"));
    HA_PUSH(changes, call->arena, ha_call_count(call, "T K v"));
    HA_PUSH(states, call->arena, ha_recurrence_states(&shape, &call->batch));
    if (final)
        memcpy(state_gradient, final, ha_call_count(call, "S K k v") * sizeof *final);
    HA_TRY(pointers_to(call, state_gradient, &state_gradients));
    HA_TRY(run(call, NULL, out, changes, states));
    const ha_recurrence_saved saved = {changes, states};
    return ha_recurrence_backward(&shape, &call->batch, &in, &saved,
                                  ha_rows_of(ha_data(call, "dout"), out_stride(call)), state_gradients, gradient,
                                  call->arena);
}

/* The gradients of all operands, in the order of the results; those of operands that are not given
 * are NULL. */
static ha_status recurrence_backward(const ha_call *call)
{
    const ha_recurrence_in in = operands_of(call);
    const ha_recurrence_out gradient = {.queries = call->out[0],
                                        .keys = call->out[1],
                                        .values = call->out[2],
                                        .log_decay = gate_of(call) == HA_GATE_VALUE ? call->out[7] : call->out[3],
                                        .beta = call->out[4],
                                        .erase_write = call->out[5],
                                        .erase_read = call->out[6],
                                        .query_stride = in.query_stride,
                                        .key_stride = in.key_stride,
                                        .value_stride = in.value_stride};
    return backward(call, &gradient, call->out[8]);
}

static const ha_operation recurrence_vjp = {
    .name = "recurrence_vjp",
    .doc = "dout [T,H,dv], and dstate of the final state -> dq, dk, dv, dg, dbeta, da, db, dgv, dinitial_state; None "
           "for\nwhat was not given.",
    .positional = 5,
    .parameter = {HA_PARAM_ARRAY("q", "T H k"), HA_PARAM_ARRAY("k", "T K k"), HA_PARAM_ARRAY("v", "T K v"),
                  HA_PARAM_ARRAY("dout", "T H v"), HA_PARAM_OPTIONAL("dstate", "S K k v"), PARAM_G,
                  HA_PARAM_OPTIONAL("beta", "T K"), HA_PARAM_OPTIONAL("a", "T K k"), HA_PARAM_OPTIONAL("b", "T K k"),
                  HA_PARAM_OPTIONAL("gv", "T K v"), HA_PARAM_LENGTHS, HA_PARAM_OPTIONAL("initial_state", "S K k v")},
    .result = {{"T H k"},
               {"T K k"},
               {"T K v"},
               {.when = "g", .none = 1},
               {.when = "beta", .none = 1},
               {.when = "a", .none = 1},
               {.when = "b", .none = 1},
               {.when = "gv", .none = 1},
               {"S K k v"}},
    .check = check_operands,
    .fast = recurrence_backward,
};
HA_OPERATION(recurrence_vjp)

/* The gradients of q, k, v, g, beta and the initial states. */
static ha_status gated_delta_backward(const ha_call *call)
{
    const ha_recurrence_in in = operands_of(call);
    const ha_recurrence_out gradient = {.queries = call->out[0],
                                        .keys = call->out[1],
                                        .values = call->out[2],
                                        .log_decay = call->out[3],
                                        .beta = call->out[4],
                                        .query_stride = in.query_stride,
                                        .key_stride = in.key_stride,
                                        .value_stride = in.value_stride};
    return backward(call, &gradient, call->out[5]);
}

static const ha_operation gated_delta_vjp = {
    .name = "gated_delta_vjp",
    .doc = "dout [T,H,dv], and dstate of the final state -> dq, dk, dv, dg, dbeta, dinitial_state.",
    .positional = 7,
    .parameter = {HA_PARAM_ARRAY("q", "T H k"), HA_PARAM_ARRAY("k", "T K k"), HA_PARAM_ARRAY("v", "T K v"),
                  HA_PARAM_ARRAY("g", "T K"), HA_PARAM_ARRAY("beta", "T K"), HA_PARAM_ARRAY("dout", "T H v"),
                  HA_PARAM_OPTIONAL("dstate", "S K k v"), HA_PARAM_LENGTHS,
                  HA_PARAM_OPTIONAL("initial_state", "S K k v")},
    .result = {{"T H k"}, {"T K k"}, {"T K v"}, {"T K"}, {"T K"}, {"S K k v"}},
    .check = check_operands,
    .fast = gated_delta_backward,
};
HA_OPERATION(gated_delta_vjp)

const ha_entry ha_ops_recurrence[] = {
    HA_ENTRY(recurrence), HA_ENTRY(recurrence_vjp), HA_ENTRY(gated_delta), HA_ENTRY(gated_delta_vjp), {0}};
