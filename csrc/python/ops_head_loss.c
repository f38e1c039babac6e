/* Losses fused with the LM head: cross_entropy and kl_divergence. */
#include "python/operation_tables.h"

#include "ops/ops.h"
#include "python/raise.h"
#include "ref/ref.h"

/* A head [V,d] with its bias [V] or NULL, by the names of the parameters. */
static ha_linear head_of(const ha_call *call, const char *weight, const char *bias)
{
    return ha_linear_of(ha_size(call, 'd'), ha_size(call, 'V'), ha_f32(ha_data(call, weight)), ha_data(call, bias));
}

/* The same in float64. */
static ref_head naive_head(const ha_call *call, const char *weight, const char *bias)
{
    return (ref_head){ha_size(call, 'd'), ha_size(call, 'V'), ha_data(call, weight), ha_data(call, bias)};
}

/* dloss, the same for every token, and dhidden [T,d], dhead [V,d], dbias [V] or NULL */
static ha_head_gradient gradient_of(const ha_call *call)
{
    return (ha_head_gradient){(float)ha_argument(call, "dloss")->number, call->out[0], call->out[1], call->out[2]};
}

/* ---- cross_entropy --------------------------------------------------------------------------- */

/* loss [T] of hidden [T,d], head [V,d], bias [V] or NULL and targets [T] */
static ha_status cross_entropy_fast(const ha_call *call)
{
    const ha_linear head = head_of(call, "head", "bias");
    return ha_head_cross_entropy(&head, ha_size(call, 'T'), ha_data(call, "hidden"), ha_data(call, "targets"),
                                 call->out[0], NULL, &ha_signals, call->arena);
}

/* The same in float64. */
static ha_status cross_entropy_naive(const ha_call *call)
{
    const ref_head head = naive_head(call, "head", "bias");
    ref_cross_entropy(&head, ha_size(call, 'T'), ha_data(call, "hidden"), ha_data(call, "targets"), call->out[0]);
    return HA_OK;
}

static const ha_operation cross_entropy = {
    .name = "cross_entropy",
    .doc = "-log softmax(hidden head^T + bias)[target], in nats: hidden [T,d], head [V,d], bias [V], targets [T] ints "
           "(-1: loss 0) -> float64 [T]. Logits of all tokens never exist at once.",
    .positional = 3,
    .parameter = {HA_PARAM_ARRAY("hidden", "T d"), HA_PARAM_ARRAY("head", "V d"),
                  HA_PARAM_INTEGERS("targets", "T", -1, 'V'), HA_PARAM_OPTIONAL("bias", "V")},
    .result = {{"T", .doubles = 1}},
    .fast = cross_entropy_fast,
    .naive = cross_entropy_naive,
};
HA_OPERATION(cross_entropy)

/* dloss, the same for every token -> dhidden [T,d], dhead [V,d], dbias [V] or NULL */
static ha_status cross_entropy_backward(const ha_call *call)
{
    const ha_linear head = head_of(call, "head", "bias");
    const ha_head_gradient gradient = gradient_of(call);
    double *loss;
    HA_PUSH(loss, call->arena, ha_call_count(call, "T"));
    return ha_head_cross_entropy(&head, ha_size(call, 'T'), ha_data(call, "hidden"), ha_data(call, "targets"), loss,
                                 &gradient, &ha_signals, call->arena);
}

static const ha_operation cross_entropy_vjp = {
    .name = "cross_entropy_vjp",
    .doc = "dloss, the same for every token -> dhidden, dhead, and with a bias dbias.",
    .positional = 4,
    .parameter = {HA_PARAM_ARRAY("hidden", "T d"), HA_PARAM_ARRAY("head", "V d"),
                  HA_PARAM_INTEGERS("targets", "T", -1, 'V'), HA_PARAM(HA_NUMBER, "dloss", "1.0"),
                  HA_PARAM_OPTIONAL("bias", "V")},
    .result = {{"T d"}, {"V d"}, {"V", .when = "bias"}},
    .fast = cross_entropy_backward,
};
HA_OPERATION(cross_entropy_vjp)

/* ---- kl_divergence --------------------------------------------------------------------------- */

/* loss [T] of the call's one student; nll [T] or NULL; gradient or NULL */
static ha_status kl_of(const ha_call *call, double *loss, double *nll, const ha_head_gradient *gradient)
{
    const float *hidden = ha_data(call, "hidden");
    const ha_linear teacher_head = head_of(call, "teacher_head", "teacher_bias"), head = head_of(call, "head", "bias");
    const ha_head_students students = {.rows = ha_size(call, 'T'),
                                       .students = 1,
                                       .teacher_head = &teacher_head,
                                       .head = &head,
                                       .teacher_hidden = ha_data(call, "teacher_hidden"),
                                       .hidden = &hidden,
                                       .target = nll ? ha_data(call, "targets") : NULL};
    return ha_head_kl(&students, &loss, nll, gradient, &ha_signals, call->arena);
}

/* loss [T], and with targets the student's cross-entropy [T] */
static ha_status kl_fast(const ha_call *call)
{
    return kl_of(call, call->out[0], call->out[1], NULL);
}

/* The same in float64. */
static ha_status kl_naive(const ha_call *call)
{
    const ref_head teacher = naive_head(call, "teacher_head", "teacher_bias"), head = naive_head(call, "head", "bias");
    const double *hidden = ha_data(call, "hidden");
    ref_kl(&teacher, ha_data(call, "teacher_hidden"), &head, hidden, ha_size(call, 'T'), call->out[0]);
    if (call->out[1])
        ref_cross_entropy(&head, ha_size(call, 'T'), hidden, ha_data(call, "targets"), call->out[1]);
    return HA_OK;
}

static const ha_operation kl_divergence = {
    .name = "kl_divergence",
    .doc = "KL(teacher || student) of the softmax over the vocabulary, in nats: hidden [T,d], head [V,d], bias [V] -> "
           "float64 [T];\nwith targets [T] also the student's cross_entropy.",
    .positional = 5,
    .parameter = {HA_PARAM_ARRAY("teacher_hidden", "T d"),
                  HA_PARAM_ARRAY("hidden", "T d"),
                  HA_PARAM_ARRAY("teacher_head", "V d"),
                  HA_PARAM_ARRAY("head", "V d"),
                  {"targets", "None", HA_INTEGERS, .shape = "T", .low = -1, .end = 'V'},
                  HA_PARAM_OPTIONAL("teacher_bias", "V"),
                  HA_PARAM_OPTIONAL("bias", "V")},
    .result = {{"T", .doubles = 1}, {"T", .when = "targets", .doubles = 1}},
    .fast = kl_fast,
    .naive = kl_naive,
};
HA_OPERATION(kl_divergence)

/* dloss, the same for every token -> dhidden [T,d], dhead [V,d], dbias [V] or NULL, all of the
 * student */
static ha_status kl_backward(const ha_call *call)
{
    const ha_head_gradient gradient = gradient_of(call);
    double *loss;
    HA_PUSH(loss, call->arena, ha_call_count(call, "T"));
    return kl_of(call, loss, NULL, &gradient);
}

static const ha_operation kl_divergence_vjp = {
    .name = "kl_divergence_vjp",
    .doc = "dloss, the same for every token -> dhidden, dhead, and with a bias dbias (of the student).",
    .positional = 5,
    .parameter = {HA_PARAM_ARRAY("teacher_hidden", "T d"), HA_PARAM_ARRAY("hidden", "T d"),
                  HA_PARAM_ARRAY("teacher_head", "V d"), HA_PARAM_ARRAY("head", "V d"),
                  HA_PARAM(HA_NUMBER, "dloss", "1.0"), HA_PARAM_OPTIONAL("teacher_bias", "V"),
                  HA_PARAM_OPTIONAL("bias", "V")},
    .result = {{"T d"}, {"V d"}, {"V", .when = "bias"}},
    .fast = kl_backward,
};
HA_OPERATION(kl_divergence_vjp)

const ha_entry ha_ops_head_loss[] = {
    HA_ENTRY(cross_entropy), HA_ENTRY(cross_entropy_vjp), HA_ENTRY(kl_divergence), HA_ENTRY(kl_divergence_vjp), {0}};
