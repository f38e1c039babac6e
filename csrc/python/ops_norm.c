/* Norms and activations: rms_norm, head_norm, layer_norm, activation. */
#include "python/operation_tables.h"

#include <string.h>

#include "ops/ops.h"
#include "ref/ref.h"

/* What is added to the mean square. */
static double epsilon_of(const ha_call *call)
{
    return ha_argument(call, "eps")->number;
}

/* Heads of x [T,H,d]; 1 for x [T,d]. */
static int heads_of(const ha_call *call)
{
    return ha_size(call, 'H') ? ha_size(call, 'H') : 1;
}

/* y [T,H,d] of x [T,H,d] or [T,d] and weight [d]; every head on its own */
static ha_status rms_fast(const ha_call *call)
{
    const int heads = heads_of(call), dim = ha_size(call, 'd'), row = heads * dim;
    const ha_row_norm norm = {dim, ha_data(call, "weight"), NULL, (float)epsilon_of(call)};
    ha_head_norm_forward(&norm, ha_size(call, 'T'), heads, ha_rows_of(ha_data(call, "x"), row),
                         ha_rows_to(call->out[0], row));
    return HA_OK;
}

/* The same in float64. */
static ha_status rms_naive(const ha_call *call)
{
    ref_rms_norm(ha_size(call, 'T') * heads_of(call), ha_size(call, 'd'), ha_data(call, "x"), ha_data(call, "weight"),
                 epsilon_of(call), call->out[0]);
    return HA_OK;
}

/* dy like y -> dx like x, dweight [d] */
static ha_status rms_backward(const ha_call *call)
{
    const int heads = heads_of(call), dim = ha_size(call, 'd'), row = heads * dim;
    const ha_row_norm norm = {dim, ha_data(call, "weight"), NULL, (float)epsilon_of(call)};
    return ha_head_norm_backward(&norm, ha_size(call, 'T'), heads, ha_rows_of(ha_data(call, "x"), row),
                                 ha_rows_of(ha_data(call, "dy"), row), ha_rows_to(call->out[0], row), call->out[1],
                                 call->arena);
}

static const ha_operation rms_norm = {
    .name = "rms_norm",
    .doc = "x weight / sqrt(mean(x^2) + eps): x [T,d], weight [d] -> [T,d].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM(HA_NUMBER, "eps", "1e-6")},
    .result = {{"T d"}},
    .fast = rms_fast,
    .naive = rms_naive,
};
HA_OPERATION(rms_norm)

static const ha_operation rms_norm_vjp = {
    .name = "rms_norm_vjp",
    .doc = "dy [T,d] -> dx, dweight.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM_ARRAY("dy", "T d"),
                  HA_PARAM(HA_NUMBER, "eps", "1e-6")},
    .result = {{"T d"}, {"d"}},
    .fast = rms_backward,
};
HA_OPERATION(rms_norm_vjp)

static const ha_operation head_norm = {
    .name = "head_norm",
    .doc = "rms_norm of every head: x [T,H,d], weight [d].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T H d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM(HA_NUMBER, "eps", "1e-6")},
    .result = {{"T H d"}},
    .fast = rms_fast,
    .naive = rms_naive,
};
HA_OPERATION(head_norm)

static const ha_operation head_norm_vjp = {
    .name = "head_norm_vjp",
    .doc = "dy [T,H,d] -> dx, dweight.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T H d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM_ARRAY("dy", "T H d"),
                  HA_PARAM(HA_NUMBER, "eps", "1e-6")},
    .result = {{"T H d"}, {"d"}},
    .fast = rms_backward,
};
HA_OPERATION(head_norm_vjp)

/* y [T,d] of x [T,d], weight [d], bias [d] */
static ha_status layer_norm_fast(const ha_call *call)
{
    const int dim = ha_size(call, 'd');
    const ha_row_norm norm = {dim, ha_data(call, "weight"), ha_data(call, "bias"), (float)epsilon_of(call)};
    ha_layer_norm_forward(&norm, ha_size(call, 'T'), ha_rows_of(ha_data(call, "x"), dim),
                          ha_rows_to(call->out[0], dim));
    return HA_OK;
}

/* The same in float64. */
static ha_status layer_norm_naive(const ha_call *call)
{
    ref_layer_norm(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "x"), ha_data(call, "weight"),
                   ha_data(call, "bias"), epsilon_of(call), call->out[0]);
    return HA_OK;
}

/* dy [T,d] -> dx [T,d], dweight [d], dbias [d] */
static ha_status layer_norm_backward(const ha_call *call)
{
    const int dim = ha_size(call, 'd');
    const ha_row_norm norm = {dim, ha_data(call, "weight"), NULL, (float)epsilon_of(call)};
    return ha_layer_norm_backward(&norm, ha_size(call, 'T'), ha_rows_of(ha_data(call, "x"), dim),
                                  ha_rows_of(ha_data(call, "dy"), dim), ha_rows_to(call->out[0], dim), call->out[1],
                                  call->out[2], call->arena);
}

static const ha_operation layer_norm = {
    .name = "layer_norm",
    .doc = "(x - mean) weight / sqrt(mean((x - mean)^2) + eps) + bias: x [T,d], weight, bias [d].",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM_ARRAY("bias", "d"),
                  HA_PARAM(HA_NUMBER, "eps", "1e-5")},
    .result = {{"T d"}},
    .fast = layer_norm_fast,
    .naive = layer_norm_naive,
};
HA_OPERATION(layer_norm)

static const ha_operation layer_norm_vjp = {
    .name = "layer_norm_vjp",
    .doc = "dy [T,d] -> dx, dweight, dbias.",
    .positional = 4,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), HA_PARAM_ARRAY("weight", "d"), HA_PARAM_ARRAY("bias", "d"),
                  HA_PARAM_ARRAY("dy", "T d"), HA_PARAM(HA_NUMBER, "eps", "1e-5")},
    .result = {{"T d"}, {"d"}, {"d"}},
    .fast = layer_norm_backward,
};
HA_OPERATION(layer_norm_vjp)

static const char *const kinds[] = {
    [HA_ACT_NONE] = "none", [HA_ACT_GELU] = "gelu",       [HA_ACT_GELU_TANH] = "gelu_tanh", [HA_ACT_RELU] = "relu",
    [HA_ACT_SILU] = "silu", [HA_ACT_SIGMOID] = "sigmoid", [HA_ACT_TANH] = "tanh",           NULL};

/* Which activation. */
static ha_act kind_of(const ha_call *call)
{
    return (ha_act)ha_argument(call, "kind")->whole;
}

/* y [T,f] of x [T,f], number by number */
static ha_status activation_fast(const ha_call *call)
{
    ha_act_forward(kind_of(call), ha_call_count(call, "T f"), ha_data(call, "x"), call->out[0]);
    return HA_OK;
}

/* The same in float64. */
static ha_status activation_naive(const ha_call *call)
{
    ref_activation(kind_of(call), ha_call_count(call, "T f"), ha_data(call, "x"), call->out[0]);
    return HA_OK;
}

/* dy [T,f] -> dx [T,f] */
static ha_status activation_backward(const ha_call *call)
{
    const size_t count = ha_call_count(call, "T f");
    float *gradient = call->out[0];
    memcpy(gradient, ha_data(call, "x"), count * sizeof *gradient);
    ha_act_backward(kind_of(call), count, gradient, ha_data(call, "dy"), NULL);
    return HA_OK;
}

static const ha_operation activation = {
    .name = "activation",
    .doc = "x [T,f]; kind: 'gelu' (x Phi(x)), 'gelu_tanh' (its form with a tanh), 'relu', 'silu', 'sigmoid', 'tanh' or "
           "'none'.",
    .positional = 1,
    .parameter = {HA_PARAM_ARRAY("x", "T f"), {"kind", "'gelu'", HA_CHOICE, .choices = kinds}},
    .result = {{"T f"}},
    .fast = activation_fast,
    .naive = activation_naive,
};
HA_OPERATION(activation)

static const ha_operation activation_vjp = {
    .name = "activation_vjp",
    .doc = "dy [T,f] -> dx.",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T f"),
                  HA_PARAM_ARRAY("dy", "T f"),
                  {"kind", "'gelu'", HA_CHOICE, .choices = kinds}},
    .result = {{"T f"}},
    .fast = activation_backward,
};
HA_OPERATION(activation_vjp)

const ha_entry ha_ops_norm[] = {HA_ENTRY(rms_norm),      HA_ENTRY(rms_norm_vjp),   HA_ENTRY(head_norm),
                                HA_ENTRY(head_norm_vjp), HA_ENTRY(layer_norm),     HA_ENTRY(layer_norm_vjp),
                                HA_ENTRY(activation),    HA_ENTRY(activation_vjp), {0}};
