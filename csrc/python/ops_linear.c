/* The linear layer, with a plain weight and with one in a storage type. */
#include "python/operation_tables.h"

#include <string.h>

#include "core/matrix.h"
#include "ops/ops.h"
#include "ref/ref.h"

static const char *const dtypes[] = {[HA_F32] = "float32",
                                     [HA_BF16] = "bfloat16",
                                     [HA_F16] = "float16",
                                     [HA_Q8_0] = "q8_0",
                                     [HA_Q4_0] = "q4_0",
                                     [HA_Q4_1] = "q4_1",
                                     NULL};

/* y [T,O] = x [T,I] weight^T + bias; weight [O,I], bias [O] or NULL */
static ha_status linear_fast(const ha_call *call)
{
    const int rows = ha_size(call, 'T'), in = ha_size(call, 'I'), out = ha_size(call, 'O');
    const ha_linear linear = ha_linear_of(in, out, ha_f32(ha_data(call, "weight")), ha_data(call, "bias"));
    ha_linear_forward(&linear, rows, ha_rows_of(ha_data(call, "x"), in), 0, ha_rows_to(call->out[0], out));
    return HA_OK;
}

/* The same in float64. */
static ha_status linear_naive(const ha_call *call)
{
    ref_linear(ha_size(call, 'T'), ha_size(call, 'I'), ha_size(call, 'O'), ha_data(call, "x"), ha_data(call, "weight"),
               ha_data(call, "bias"), call->out[0]);
    return HA_OK;
}

static const ha_operation linear = {
    .name = "linear",
    .doc = "x W^T + bias: x [T,in], weight [out,in], bias [out] -> [T,out].",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T I"), HA_PARAM_ARRAY("weight", "O I"), HA_PARAM_OPTIONAL("bias", "O")},
    .result = {{"T O"}},
    .fast = linear_fast,
    .naive = linear_naive,
};
HA_OPERATION(linear)

/* dy [T,O] -> dx [T,I], dweight [O,I], dbias [O] or NULL */
static ha_status linear_backward(const ha_call *call)
{
    const int rows = ha_size(call, 'T'), in = ha_size(call, 'I'), out = ha_size(call, 'O');
    const ha_linear linear = ha_linear_of(in, out, ha_f32(ha_data(call, "weight")), NULL);
    const ha_linear_gradient gradient = {
        .x = ha_rows_to(call->out[0], in), .weight = call->out[1], .bias = call->out[2]};
    ha_linear_backward(&linear, rows, ha_rows_of(ha_data(call, "x"), in), ha_rows_of(ha_data(call, "dy"), out),
                       &gradient);
    return HA_OK;
}

static const ha_operation linear_vjp = {
    .name = "linear_vjp",
    .doc = "dy [T,out] -> dx, dweight, dbias (None without bias).",
    .positional = 4,
    .parameter = {HA_PARAM_ARRAY("x", "T I"), HA_PARAM_ARRAY("weight", "O I"), HA_PARAM_ARRAY("dy", "T O"),
                  HA_PARAM_OPTIONAL("bias", "O")},
    .result = {{"T I"}, {"O I"}, {"O", .when = "bias", .none = 1}},
    .fast = linear_backward,
};
HA_OPERATION(linear_vjp)

/* Rows of the weight are whole blocks of its storage type. */
static void check_stored(ha_call *call)
{
    const ha_dtype dtype = (ha_dtype)ha_argument(call, "dtype")->whole;
    ha_call_require(call, (size_t)ha_size(call, 'I') % ha_dtype_block(dtype) == 0,
                    "weight has rows of %d, allowed for %s are multiples of %d", ha_size(call, 'I'), dtypes[dtype],
                    (int)ha_dtype_block(dtype));
}

/* weight [O,I] in its storage type, on the call's arena; data NULL when that is full */
static ha_matrix stored_weight(const ha_call *call)
{
    const ha_dtype dtype = (ha_dtype)ha_argument(call, "dtype")->whole;
    const size_t count = ha_call_count(call, "O I");
    void *packed = ha_arena_push(call->arena, ha_dtype_bytes(dtype, count), 1);
    if (packed)
        ha_from_f32(dtype, ha_data(call, "weight"), packed, count);
    return (ha_matrix){dtype, packed, ha_size(call, 'O'), NULL};
}

/* As linear, with the weight as it comes back from its storage type. */
static ha_status stored_fast(const ha_call *call)
{
    const int rows = ha_size(call, 'T'), in = ha_size(call, 'I'), out = ha_size(call, 'O');
    const ha_matrix weight = stored_weight(call);
    if (!weight.data)
        return HA_NO_MEMORY;
    const ha_linear linear = ha_linear_of(in, out, weight, ha_data(call, "bias"));
    ha_linear_forward(&linear, rows, ha_rows_of(ha_data(call, "x"), in), 0, ha_rows_to(call->out[0], out));
    return HA_OK;
}

/* The same in float64. */
static ha_status stored_naive(const ha_call *call)
{
    const size_t count = ha_call_count(call, "O I");
    double *kept;
    HA_PUSH(kept, call->arena, count);
    ref_stored((ha_dtype)ha_argument(call, "dtype")->whole, count, ha_data(call, "weight"), kept);
    ref_linear(ha_size(call, 'T'), ha_size(call, 'I'), ha_size(call, 'O'), ha_data(call, "x"), kept,
               ha_data(call, "bias"), call->out[0]);
    return HA_OK;
}

static const ha_operation stored_linear = {
    .name = "stored_linear",
    .doc = "linear with the weight kept in a storage type, see pack.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T I"),
                  HA_PARAM_ARRAY("weight", "O I"),
                  HA_PARAM_OPTIONAL("bias", "O"),
                  {"dtype", "'q8_0'", HA_CHOICE, .choices = dtypes}},
    .result = {{"T O"}},
    .check = check_stored,
    .fast = stored_fast,
    .naive = stored_naive,
};
HA_OPERATION(stored_linear)

/* dy [T,O] -> dx [T,I], dbias [O] or NULL */
static ha_status stored_backward(const ha_call *call)
{
    const int rows = ha_size(call, 'T'), in = ha_size(call, 'I'), out = ha_size(call, 'O');
    const ha_matrix weight = stored_weight(call);
    if (!weight.data)
        return HA_NO_MEMORY;
    const ha_linear linear = ha_linear_of(in, out, weight, NULL);
    const ha_linear_gradient gradient = {.x = ha_rows_to(call->out[0], in), .bias = call->out[1]};
    ha_linear_backward(&linear, rows, ha_rows_of(ha_data(call, "x"), in), ha_rows_of(ha_data(call, "dy"), out),
                       &gradient);
    return HA_OK;
}

static const ha_operation stored_linear_vjp = {
    .name = "stored_linear_vjp",
    .doc = "dy [T,out] -> dx, dbias (None without bias); the weight is constant.",
    .positional = 4,
    .parameter = {HA_PARAM_ARRAY("x", "T I"),
                  HA_PARAM_ARRAY("weight", "O I"),
                  HA_PARAM_ARRAY("dy", "T O"),
                  HA_PARAM_OPTIONAL("bias", "O"),
                  {"dtype", "'q8_0'", HA_CHOICE, .choices = dtypes}},
    .result = {{"T I"}, {"O", .when = "bias", .none = 1}},
    .check = check_stored,
    .fast = stored_backward,
};
HA_OPERATION(stored_linear_vjp)

/* x [T,I], y [T,O], start [O,I] -> [O,I] */
static ha_status least_squares_fast(const ha_call *call)
{
    const ha_regression r = {ha_size(call, 'T'), ha_size(call, 'I'), ha_size(call, 'O'), ha_data(call, "x"),
                             ha_data(call, "y")};
    return ha_least_squares(&r, ha_argument(call, "damping")->number, ha_data(call, "start"), call->out[0],
                            call->arena);
}

/* The same in float64. */
static ha_status least_squares_naive(const ha_call *call)
{
    const int in = ha_size(call, 'I');
    double *work;
    HA_PUSH(work, call->arena, (size_t)in * (size_t)(in + 1));
    const ref_regression g = {ha_size(call, 'T'),
                              in,
                              ha_size(call, 'O'),
                              ha_data(call, "x"),
                              ha_data(call, "y"),
                              ha_data(call, "start"),
                              ha_argument(call, "damping")->number,
                              work};
    ref_least_squares(&g, call->out[0]);
    return HA_OK;
}

static void check_damping(ha_call *call)
{
    const double damping = ha_argument(call, "damping")->number;
    ha_call_require(call, damping > 0.0 && damping < 1e30, "damping is %g, allowed is more than 0", damping);
}

static const ha_operation least_squares = {
    .name = "least_squares",
    .doc = "Ridge regression: the W [out,in] with the least sum of |x W^T - y|^2 + damping m |W - start|^2, m the mean "
           "of the diagonal of x^T x: x [T,in], y [T,out], start [out,in].",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("x", "T I"), HA_PARAM_ARRAY("y", "T O"), HA_PARAM_ARRAY("start", "O I"),
                  HA_PARAM(HA_NUMBER, "damping", "0.01")},
    .result = {{"O I"}},
    .check = check_damping,
    .fast = least_squares_fast,
    .naive = least_squares_naive,
};
HA_OPERATION(least_squares)

const ha_entry ha_ops_linear[] = {HA_ENTRY(least_squares),     HA_ENTRY(linear),
                                  HA_ENTRY(linear_vjp),        HA_ENTRY(stored_linear),
                                  HA_ENTRY(stored_linear_vjp), {0}};
