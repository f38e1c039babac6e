/* Operations of the heads of tasks: pool_sequences, and losses on logits that are at hand. */
#include "python/operation_tables.h"

#include <string.h>

#include "ops/ops.h"
#include "ref/ref.h"

/* ---- pool_sequences -------------------------------------------------------------------------- */

static const char *const pools[] = {[HA_POOL_FIRST] = "first", [HA_POOL_LAST] = "last", [HA_POOL_MEAN] = "mean", NULL};

/* Which row, or the mean. */
static ha_pool_kind pool_of(const ha_call *call)
{
    return (ha_pool_kind)ha_argument(call, "pool")->whole;
}

/* y [S,d] of x [T,d] */
static ha_status pool_fast(const ha_call *call)
{
    ha_pool_sequences(pool_of(call), &call->batch, ha_size(call, 'd'), ha_data(call, "x"), call->out[0]);
    return HA_OK;
}

/* The same in float64. */
static ha_status pool_naive(const ha_call *call)
{
    ref_pool_sequences((int)pool_of(call), &call->batch, ha_size(call, 'd'), ha_data(call, "x"), call->out[0]);
    return HA_OK;
}

static const ha_operation pool_sequences = {
    .name = "pool_sequences",
    .doc = "The 'first' or 'last' row of each sequence, or the 'mean' of its rows: x [T,d] -> [sequences,d].",
    .positional = 1,
    .parameter = {HA_PARAM_ARRAY("x", "T d"), {"pool", "'first'", HA_CHOICE, .choices = pools}, HA_PARAM_LENGTHS},
    .result = {{"S d"}},
    .fast = pool_fast,
    .naive = pool_naive,
};
HA_OPERATION(pool_sequences)

/* dy [S,d] -> dx [T,d] */
static ha_status pool_backward(const ha_call *call)
{
    ha_pool_sequences_backward(pool_of(call), &call->batch, ha_size(call, 'd'), ha_data(call, "dy"), call->out[0]);
    return HA_OK;
}

static const ha_operation pool_sequences_vjp = {
    .name = "pool_sequences_vjp",
    .doc = "dy [sequences,d] -> dx.",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("x", "T d"),
                  HA_PARAM_ARRAY("dy", "S d"),
                  {"pool", "'first'", HA_CHOICE, .choices = pools},
                  HA_PARAM_LENGTHS},
    .result = {{"T d"}},
    .fast = pool_backward,
};
HA_OPERATION(pool_sequences_vjp)

/* ---- losses of pieces ------------------------------------------------------------------------ */

/* A copy of logits [T] on the arena, which a loss may use up; NULL when there is no memory. */
static float *copy_of(const ha_call *call, const char *logits)
{
    const size_t count = ha_call_count(call, "T");
    float *own = ha_arena_push(call->arena, count, sizeof *own);
    return own ? memcpy(own, ha_data(call, logits), count * sizeof *own) : NULL;
}

/* loss [S] of logits [T], which become the gradient of scale * sum of the losses */
typedef ha_status (*piece_loss)(const ha_call *call, float *logits, float scale, double *loss);

/* The call's loss [S]. */
static ha_status forward(const ha_call *call, piece_loss of)
{
    float *logits = copy_of(call, "logits");
    return logits ? of(call, logits, 0.0f, call->out[0]) : HA_NO_MEMORY;
}

/* dloss, the same for every piece -> dlogits [T] */
static ha_status backward(const ha_call *call, piece_loss of)
{
    const float scale = (float)ha_argument(call, "dloss")->number;
    float *logits = copy_of(call, "logits");
    double *loss;
    if (!logits)
        return HA_NO_MEMORY;
    HA_PUSH(loss, call->arena, ha_call_count(call, "S"));
    HA_TRY(of(call, logits, scale, loss));
    if (scale != 0.0f)
        memcpy(call->out[0], logits, ha_call_count(call, "T") * sizeof *logits);
    return HA_OK;
}

/* ---- softmax_cross_entropy ------------------------------------------------------------------- */

/* Targets lie within their pieces. */
static void check_targets(ha_call *call)
{
    const int32_t *target = ha_data(call, "targets"), *offset = call->batch.offset;
    for (int s = 0; !call->failed && s < call->batch.n_seq; s++)
        ha_call_require(call, target[s] < offset[s + 1] - offset[s], "targets[%d] is %d, allowed are 0 to %d", s,
                        target[s], offset[s + 1] - offset[s] - 1);
}

/* Against targets [S]. */
static ha_status cross_entropy(const ha_call *call, float *logits, float scale, double *loss)
{
    ha_pieces_cross_entropy(call->batch.n_seq, call->batch.offset, logits, ha_data(call, "targets"), scale, loss);
    return HA_OK;
}

/* loss [S] */
static ha_status cross_entropy_fast(const ha_call *call)
{
    return forward(call, cross_entropy);
}

/* The same in float64. */
static ha_status cross_entropy_naive(const ha_call *call)
{
    ref_softmax_cross_entropy(&call->batch, ha_data(call, "logits"), ha_data(call, "targets"), call->out[0]);
    return HA_OK;
}

/* dlogits [T] */
static ha_status cross_entropy_backward(const ha_call *call)
{
    return backward(call, cross_entropy);
}

static const ha_operation softmax_cross_entropy = {
    .name = "softmax_cross_entropy",
    .doc = "-log softmax(logits)[target] over each piece, in nats: logits [T], `lengths` of the pieces (default: one), "
           "targets [pieces] within them -> float64 [pieces].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("logits", "T"), HA_PARAM_INTEGERS("targets", "S", 0, 0), HA_PARAM_LENGTHS},
    .result = {{"S", .doubles = 1}},
    .check = check_targets,
    .fast = cross_entropy_fast,
    .naive = cross_entropy_naive,
};
HA_OPERATION(softmax_cross_entropy)

static const ha_operation softmax_cross_entropy_vjp = {
    .name = "softmax_cross_entropy_vjp",
    .doc = "dloss, the same for every piece -> dlogits.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("logits", "T"), HA_PARAM_INTEGERS("targets", "S", 0, 0),
                  HA_PARAM(HA_NUMBER, "dloss", "1.0"), HA_PARAM_LENGTHS},
    .result = {{"T"}},
    .check = check_targets,
    .fast = cross_entropy_backward,
};
HA_OPERATION(softmax_cross_entropy_vjp)

/* ---- softmax_kl ------------------------------------------------------------------------------ */

/* From teacher_logits [T]. */
static ha_status kl(const ha_call *call, float *logits, float scale, double *loss)
{
    float *teacher = copy_of(call, "teacher_logits");
    if (!teacher)
        return HA_NO_MEMORY;
    ha_pieces_kl(call->batch.n_seq, call->batch.offset, teacher, logits, scale, loss);
    return HA_OK;
}

/* loss [S] */
static ha_status kl_fast(const ha_call *call)
{
    return forward(call, kl);
}

/* The same in float64. */
static ha_status kl_naive(const ha_call *call)
{
    ref_softmax_kl(&call->batch, ha_data(call, "teacher_logits"), ha_data(call, "logits"), call->out[0]);
    return HA_OK;
}

/* dlogits [T] of the student */
static ha_status kl_backward(const ha_call *call)
{
    return backward(call, kl);
}

static const ha_operation softmax_kl = {
    .name = "softmax_kl",
    .doc = "KL(teacher || student) of the softmax over each piece, in nats: logits [T] -> float64 [pieces].",
    .positional = 2,
    .parameter = {HA_PARAM_ARRAY("teacher_logits", "T"), HA_PARAM_ARRAY("logits", "T"), HA_PARAM_LENGTHS},
    .result = {{"S", .doubles = 1}},
    .fast = kl_fast,
    .naive = kl_naive,
};
HA_OPERATION(softmax_kl)

static const ha_operation softmax_kl_vjp = {
    .name = "softmax_kl_vjp",
    .doc = "dloss, the same for every piece -> dlogits of the student.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("teacher_logits", "T"), HA_PARAM_ARRAY("logits", "T"),
                  HA_PARAM(HA_NUMBER, "dloss", "1.0"), HA_PARAM_LENGTHS},
    .result = {{"T"}},
    .fast = kl_backward,
};
HA_OPERATION(softmax_kl_vjp)

const ha_entry ha_ops_task[] = {HA_ENTRY(pool_sequences),
                                HA_ENTRY(pool_sequences_vjp),
                                HA_ENTRY(softmax_cross_entropy),
                                HA_ENTRY(softmax_cross_entropy_vjp),
                                HA_ENTRY(softmax_kl),
                                HA_ENTRY(softmax_kl_vjp),
                                {0}};
