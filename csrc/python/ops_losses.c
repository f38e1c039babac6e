/* ops with a loss per token, fused with the LM head where there is one, and the optimizer step. */
#include "python/ops.h"
#include "python/raise.h"

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

/* Results for the gradients of head and bias. */
static ha_head_gradient head_out(ha_call *call, int wanted, const float *bias)
{
    ha_head_gradient d = {NULL, NULL};
    if (wanted)
        d.weight = ha_call_out(call, "V d");
    if (wanted && bias)
        d.bias = ha_call_out(call, "V");
    return d;
}

static PyObject *head_cross_entropy(PyObject *args, PyObject *kwargs, int vjp)
{
    static char *forward_names[] = {"hidden", "head", "targets", "bias", NULL};
    static char *vjp_names[] = {"hidden", "head", "targets", "dloss", "bias", NULL};
    PyObject *hidden_arg, *head_arg, *target_arg, *bias_arg = Py_None;
    double dloss = 1.0;
    int ok = vjp ? PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|d$O:cross_entropy_vjp", vjp_names, &hidden_arg,
                                               &head_arg, &target_arg, &dloss, &bias_arg)
                 : PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$O:cross_entropy", forward_names, &hidden_arg,
                                               &head_arg, &target_arg, &bias_arg);
    if (!ok)
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *hidden = ha_call_in(&call, hidden_arg, "hidden", "T d", 0),
                *head = ha_call_in(&call, head_arg, "head", "V d", 0),
                *bias = ha_call_in(&call, bias_arg, "bias", "V", 1);
    const int32_t *target = ha_call_in_int(&call, target_arg, "targets", "T", -1, SIZE('V'));
    double *loss = vjp ? NULL : ha_call_out_double(&call, "T");
    float *dhidden = vjp ? ha_call_out(&call, "T d") : NULL;
    const ha_head_gradient dhead = head_out(&call, vjp, bias);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        if (!loss)
            loss = ha_arena_push(call.arena, (size_t)SIZE('T'), sizeof *loss);
        status = loss ? ha_head_cross_entropy(SIZE('T'), SIZE('d'), SIZE('V'), hidden, (ha_head){ha_f32(head), bias},
                                              target, (float)dloss, loss, dhidden, dhead, &ha_signals, call.arena)
                      : HA_NO_MEMORY;
    }
    return ha_call_end(&call, status);
}

static PyObject *cross_entropy(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return head_cross_entropy(args, kwargs, 0);
}

static PyObject *cross_entropy_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return head_cross_entropy(args, kwargs, 1);
}

static PyObject *head_kl(PyObject *args, PyObject *kwargs, int vjp)
{
    static char *names[2][8] = {
        {"teacher_hidden", "hidden", "teacher_head", "head", "targets", "teacher_bias", "bias", NULL},
        {"teacher_hidden", "hidden", "teacher_head", "head", "dloss", "teacher_bias", "bias", NULL}};
    PyObject *teacher_arg, *hidden_arg, *teacher_head_arg, *head_arg, *target_arg = Py_None,
                                                                      *teacher_bias_arg = Py_None, *bias_arg = Py_None;
    double dloss = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, vjp ? "OOOO|d$OO:kl_divergence_vjp" : "OOOO|O$OO:kl_divergence",
                                     names[vjp], &teacher_arg, &hidden_arg, &teacher_head_arg, &head_arg,
                                     vjp ? (void *)&dloss : (void *)&target_arg, &teacher_bias_arg, &bias_arg))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *teacher = ha_call_in(&call, teacher_arg, "teacher_hidden", "T d", 0);
    const float *hidden = ha_call_in(&call, hidden_arg, "hidden", "T d", 0);
    const float *teacher_head = ha_call_in(&call, teacher_head_arg, "teacher_head", "V d", 0);
    const float *head = ha_call_in(&call, head_arg, "head", "V d", 0);
    const float *teacher_bias = ha_call_in(&call, teacher_bias_arg, "teacher_bias", "V", 1);
    const float *bias = ha_call_in(&call, bias_arg, "bias", "V", 1);
    const int32_t *target = NULL;
    if (target_arg != Py_None)
        target = ha_call_in_int(&call, target_arg, "targets", "T", -1, SIZE('V'));
    double *loss = vjp ? NULL : ha_call_out_double(&call, "T"), *nll = target ? ha_call_out_double(&call, "T") : NULL;
    float *dhidden = vjp ? ha_call_out(&call, "T d") : NULL;
    const ha_head_gradient dhead = head_out(&call, vjp, bias);
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        if (!loss)
            loss = ha_arena_push(call.arena, (size_t)SIZE('T'), sizeof *loss);
        status =
            loss ? ha_head_kl(SIZE('T'), SIZE('d'), SIZE('V'), teacher, (ha_head){ha_f32(teacher_head), teacher_bias},
                              1, &hidden, (ha_head){ha_f32(head), bias}, (float)dloss, &loss, target, nll, NULL,
                              dhidden, dhead, &ha_signals, call.arena)
                 : HA_NO_MEMORY;
    }
    return ha_call_end(&call, status);
}

static PyObject *kl_divergence(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return head_kl(args, kwargs, 0);
}

static PyObject *kl_divergence_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return head_kl(args, kwargs, 1);
}

typedef void (*row_error)(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy);

static PyObject *row_loss(PyObject *args, PyObject *kwargs, row_error error, const char *format)
{
    static char *names[] = {"target", "y", "dloss", NULL}, *plain[] = {"target", "y", NULL};
    PyObject *target_arg, *y_arg;
    double dloss = 1.0;
    const int vjp = strchr(format, '|') != NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, vjp ? names : plain, &target_arg, &y_arg, &dloss))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *target = ha_call_in(&call, target_arg, "target", "T d", 0),
                *y = ha_call_in(&call, y_arg, "y", "T d", 0);
    double *loss = vjp ? NULL : ha_call_out_double(&call, "T");
    float *dy = vjp ? ha_call_out(&call, "T d") : NULL;
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        if (!loss && !(loss = ha_arena_push(call.arena, (size_t)SIZE('T'), sizeof *loss)))
            status = HA_NO_MEMORY;
        else
            error(SIZE('T'), SIZE('d'), target, y, (float)dloss, loss, dy);
    }
    return ha_call_end(&call, status);
}

static void relative(int rows, int d, const float *target, const float *y, float scale, double *loss, float *dy)
{
    ha_relative_error(rows, d, target, y, NULL, scale, loss, dy);
}

#define ROW_LOSS(name, error)                                                       \
    static PyObject *name(PyObject *module, PyObject *args, PyObject *kwargs)       \
    {                                                                               \
        return row_loss(args, kwargs, error, "OO:" #name);                          \
    }                                                                               \
    static PyObject *name##_vjp(PyObject *module, PyObject *args, PyObject *kwargs) \
    {                                                                               \
        return row_loss(args, kwargs, error, "OO|d:" #name "_vjp");                 \
    }

ROW_LOSS(align_loss, ha_align_loss)
ROW_LOSS(squared_error, ha_squared_error)
ROW_LOSS(relative_error, relative)
#undef ROW_LOSS

static PyObject *adamw(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"p", "g", "m", "v", "lr", "step", "betas", "eps", "weight_decay", "clip", NULL};
    PyObject *p_arg, *g_arg, *m_arg, *v_arg;
    double lr, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.0, clip = 1.0;
    long long step;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOdL|$(dd)ddd:adamw", names, &p_arg, &g_arg, &m_arg, &v_arg, &lr,
                                     &step, &beta1, &beta2, &eps, &decay, &clip))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    ha_call_require(&call, step >= 1, "step is %lld, allowed is 1 or more", step);
    float *p = ha_call_in_place(&call, p_arg, "p", "N"), *g = ha_call_in_place(&call, g_arg, "g", "N");
    float *m = ha_call_in_place(&call, m_arg, "m", "N"), *v = ha_call_in_place(&call, v_arg, "v", "N");
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const ha_segment all = {.offset = 0, .count = (size_t)SIZE('N'), .lr = (float)lr, .decay = (float)decay};
        status = ha_adamw(1, &all, p, g, m, v, (float)clip, (float)beta1, (float)beta2, (float)eps, step, call.arena);
    }
    return ha_call_end(&call, status);
}

PyMethodDef ha_ops_losses[] = {
    HA_FUNCTION(
        cross_entropy,
        "cross_entropy(hidden, head, targets, *, bias=None)\n--\n\n-log softmax(hidden head^T + bias)[target], in "
        "nats: hidden [T,d], head [V,d], bias [V], targets [T] ints (-1: loss 0) -> float64 [T]. Logits of all tokens "
        "never "
        "exist at once."),
    HA_FUNCTION(cross_entropy_vjp, "cross_entropy_vjp(hidden, head, targets, dloss=1.0, *, bias=None)\n--\n\n"
                                   "dloss, the same for every token -> dhidden, dhead, and with a bias dbias."),
    HA_FUNCTION(kl_divergence, "kl_divergence(teacher_hidden, hidden, teacher_head, head, targets=None, *, "
                               "teacher_bias=None, bias=None)\n--\n\n"
                               "KL(teacher || student) of the softmax over the vocabulary, in nats: hidden [T,d], head "
                               "[V,d], bias [V] -> float64 [T];\nwith targets [T] also the student's cross_entropy."),
    HA_FUNCTION(kl_divergence_vjp, "kl_divergence_vjp(teacher_hidden, hidden, teacher_head, head, dloss=1.0, *, "
                                   "teacher_bias=None, bias=None)\n--\n\n"
                                   "dloss, the same for every token -> dhidden, dhead, and with a bias dbias (of the "
                                   "student)."),
    HA_FUNCTION(align_loss, "align_loss(target, y)\n--\n\n|y - target| / sqrt(d): target, y [T,d] -> float64 [T]."),
    HA_FUNCTION(align_loss_vjp,
                "align_loss_vjp(target, y, dloss=1.0)\n--\n\ndloss, the same for every token -> dy; 0 where "
                "y = target."),
    HA_FUNCTION(squared_error, "squared_error(target, y)\n--\n\n|y - target|^2 / d: target, y [T,d] -> float64 [T]."),
    HA_FUNCTION(squared_error_vjp, "squared_error_vjp(target, y, dloss=1.0)\n--\n\ndloss, the same for every row -> "
                                   "dy."),
    HA_FUNCTION(relative_error,
                "relative_error(target, y)\n--\n\n|y - target|^2 / |target|^2: target, y [T,d] -> float64 [T]."),
    HA_FUNCTION(relative_error_vjp, "relative_error_vjp(target, y, dloss=1.0)\n--\n\ndloss, the same for every row -> "
                                    "dy."),
    HA_FUNCTION(
        adamw,
        "adamw(p, g, m, v, lr, step, *, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, clip=1.0)\n--\n\n"
        "One AdamW step in place on arrays [N]; step counts from 1. g is multiplied with clip, and zero afterwards."),
    {0},
};
