/* Distances row by row: align_loss, squared_error, relative_error. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "ref/ref.h"

/* loss [rows] of target, y [rows,width]; dy [rows,width], unless NULL, of scale * sum of the
 * losses */
typedef void (*row_error)(int rows, int width, const float *target, const float *y, float scale, double *loss,
                          float *dy);
typedef void (*naive_error)(int rows, int width, const double *target, const double *y, double *loss);

/* ha_relative_error with every row of weight 1. */
static void relative(int rows, int width, const float *target, const float *y, float scale, double *loss, float *dy)
{
    ha_relative_error(rows, width, target, y, NULL, scale, loss, dy);
}

/* target, y [T,d] -> loss [T] */
static ha_status forward(const ha_call *call, row_error error)
{
    error(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "target"), ha_data(call, "y"), 1.0f, call->out[0],
          NULL);
    return HA_OK;
}

/* The same in float64. */
static ha_status forward_naive(const ha_call *call, naive_error error)
{
    error(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "target"), ha_data(call, "y"), call->out[0]);
    return HA_OK;
}

/* dloss, the same for every row -> dy [T,d] */
static ha_status backward(const ha_call *call, row_error error)
{
    double *loss;
    HA_PUSH(loss, call->arena, ha_call_count(call, "T"));
    error(ha_size(call, 'T'), ha_size(call, 'd'), ha_data(call, "target"), ha_data(call, "y"),
          (float)ha_argument(call, "dloss")->number, loss, call->out[0]);
    return HA_OK;
}

/* The three functions of an operation over one error. */
#define ROW_LOSS(name, error, naive_error)                \
    static ha_status name##_fast(const ha_call *call)     \
    {                                                     \
        return forward(call, error);                      \
    }                                                     \
    static ha_status name##_naive(const ha_call *call)    \
    {                                                     \
        return forward_naive(call, naive_error);          \
    }                                                     \
    static ha_status name##_backward(const ha_call *call) \
    {                                                     \
        return backward(call, error);                     \
    }

ROW_LOSS(align_loss, ha_align_loss, ref_align_loss)
ROW_LOSS(squared_error, ha_squared_error, ref_squared_error)
ROW_LOSS(relative_error, relative, ref_relative_error)
#undef ROW_LOSS

#define PARAM_PAIR HA_PARAM_ARRAY("target", "T d"), HA_PARAM_ARRAY("y", "T d")

static const ha_operation align_loss = {
    .name = "align_loss",
    .doc = "|y - target| / sqrt(d): target, y [T,d] -> float64 [T].",
    .positional = 2,
    .parameter = {PARAM_PAIR},
    .result = {{"T", .doubles = 1}},
    .fast = align_loss_fast,
    .naive = align_loss_naive,
};
HA_OPERATION(align_loss)

static const ha_operation align_loss_vjp = {
    .name = "align_loss_vjp",
    .doc = "dloss, the same for every token -> dy; 0 where y = target.",
    .positional = 3,
    .parameter = {PARAM_PAIR, HA_PARAM(HA_NUMBER, "dloss", "1.0")},
    .result = {{"T d"}},
    .fast = align_loss_backward,
};
HA_OPERATION(align_loss_vjp)

static const ha_operation squared_error = {
    .name = "squared_error",
    .doc = "|y - target|^2 / d: target, y [T,d] -> float64 [T].",
    .positional = 2,
    .parameter = {PARAM_PAIR},
    .result = {{"T", .doubles = 1}},
    .fast = squared_error_fast,
    .naive = squared_error_naive,
};
HA_OPERATION(squared_error)

static const ha_operation squared_error_vjp = {
    .name = "squared_error_vjp",
    .doc = "dloss, the same for every row -> dy.",
    .positional = 3,
    .parameter = {PARAM_PAIR, HA_PARAM(HA_NUMBER, "dloss", "1.0")},
    .result = {{"T d"}},
    .fast = squared_error_backward,
};
HA_OPERATION(squared_error_vjp)

static const ha_operation relative_error = {
    .name = "relative_error",
    .doc = "|y - target|^2 / |target|^2: target, y [T,d] -> float64 [T].",
    .positional = 2,
    .parameter = {PARAM_PAIR},
    .result = {{"T", .doubles = 1}},
    .fast = relative_error_fast,
    .naive = relative_error_naive,
};
HA_OPERATION(relative_error)

static const ha_operation relative_error_vjp = {
    .name = "relative_error_vjp",
    .doc = "dloss, the same for every row -> dy.",
    .positional = 3,
    .parameter = {PARAM_PAIR, HA_PARAM(HA_NUMBER, "dloss", "1.0")},
    .result = {{"T d"}},
    .fast = relative_error_backward,
};
HA_OPERATION(relative_error_vjp)

const ha_entry ha_ops_row_loss[] = {HA_ENTRY(align_loss),
                                    HA_ENTRY(align_loss_vjp),
                                    HA_ENTRY(squared_error),
                                    HA_ENTRY(squared_error_vjp),
                                    HA_ENTRY(relative_error),
                                    HA_ENTRY(relative_error_vjp),
                                    {0}};
