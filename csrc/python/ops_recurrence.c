/* ops.recurrence and ops.gated_delta, a case of it, with states in and out. */
#include "python/ops.h"

#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

typedef struct {
    ha_recurrence shape;
    ha_recurrence_in in;
    const float *initial;
} operands;

enum { Q, K, V, G, BETA, A, B, GV, OPERANDS };
static const char *const name_of[OPERANDS] = {"q", "k", "v", "g", "beta", "a", "b", "gv"};
static const char *const gates[] = {"T H", "T H k", "T H v"}; /* HA_GATE_HEAD and on */

/* The operands in the order above; those that are not given are NULL. gated: the delta rule with a gate per head. */
static operands arguments(ha_call *call, PyObject *const object[OPERANDS], int gated)
{
    operands x = {0};
    int gate = -1;
    x.in.q = ha_call_in(call, object[Q], name_of[Q], "T H k", 0);
    x.in.k = ha_call_in(call, object[K], name_of[K], "T H k", 0);
    x.in.v = ha_call_in(call, object[V], name_of[V], "T H v", 0);
    if (gated)
        x.in.g = ha_call_in(call, object[G], name_of[G], gates[gate = 0], 0);
    else
        x.in.g = ha_call_in_either(call, object[G], name_of[G], gates, &gate);
    x.in.beta = ha_call_in(call, object[BETA], name_of[BETA], "T H", !gated);
    x.in.a = ha_call_in(call, object[A], name_of[A], "T H k", 1);
    x.in.b = ha_call_in(call, object[B], name_of[B], "T H k", 1);
    ha_call_require(call, !x.in.a == !x.in.b && !(x.in.a && x.in.beta),
                    "a, b and beta are %s, %s and %s, allowed are none, a with b, or beta", x.in.a ? "given" : "None",
                    x.in.b ? "given" : "None", x.in.beta ? "given" : "None");
    const float *gv = ha_call_in(call, object[GV], name_of[GV], gates[2], 1);
    ha_call_require(call, !gv || !(x.in.g || x.in.a || x.in.beta),
                    "gv is given with g, beta or a and b, allowed is gv without them");
    ha_call_state_size(call, (int64_t)ha_size(call, 'k') * ha_size(call, 'v'));
    x.shape = (ha_recurrence){ha_size(call, 'H'), ha_size(call, 'k'), ha_size(call, 'v'), HA_GATE_NONE};
    if (x.in.g)
        x.shape.gate = gate ? HA_GATE_CHANNEL : HA_GATE_HEAD;
    if (gv) {
        x.in.g = gv;
        x.shape.gate = HA_GATE_VALUE;
    }
    x.in.ldk = (ptrdiff_t)x.shape.heads * x.shape.dk;
    x.in.ldv = (ptrdiff_t)x.shape.heads * x.shape.dv;
    return x;
}

static size_t state_size(const ha_recurrence *r)
{
    return (size_t)r->heads * (size_t)r->dk * (size_t)r->dv;
}

/* u and states: NULL, or room for what the backward pass needs. */
static ha_status forward(const operands *x, const ha_batch *batch, float *final, float *out, float *u, float *states,
                         ha_arena *arena)
{
    float **from, **to;
    HA_TRY(ha_by_sequence(batch->n_seq, state_size(&x->shape), (float *)x->initial, &from, arena));
    HA_TRY(ha_by_sequence(batch->n_seq, state_size(&x->shape), final, &to, arena));
    return ha_recurrence_forward(&x->shape, batch, &x->in, from, to, out, x->in.ldv, u, states, arena);
}

static PyObject *run(PyObject *const object[OPERANDS], PyObject *lengths, PyObject *initial, int return_state,
                     int gated)
{
    ha_call call = ha_call_begin(NPY_FLOAT32);
    operands x = arguments(&call, object, gated);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    x.initial = ha_call_in(&call, initial, "initial_state", "S H k v", 1);
    float *out = ha_call_out(&call, "T H v"), *final = return_state ? ha_call_out(&call, "S H k v") : NULL;
    ha_status status = HA_OK;
    if (ha_call_run(&call))
        status = forward(&x, &batch, final, out, NULL, NULL, call.arena);
    return ha_call_end(&call, status);
}

static ha_status backward(const operands *x, const ha_batch *batch, const float *dout, float *dstate,
                          const ha_recurrence_out *gradient, ha_arena *arena)
{
    const size_t wide = (size_t)batch->rows * (size_t)x->in.ldv;
    float *out, *u, *states, **ds;
    HA_PUSH(out, arena, wide);
    HA_PUSH(u, arena, wide);
    HA_PUSH(states, arena, ha_recurrence_states(&x->shape, batch));
    HA_TRY(ha_by_sequence(batch->n_seq, state_size(&x->shape), dstate, &ds, arena));
    HA_TRY(forward(x, batch, NULL, out, u, states, arena));
    return ha_recurrence_backward(&x->shape, batch, &x->in, u, states, dout, x->in.ldv, ds, gradient, arena);
}

/* The gradient of an operand: an array of its shape; None, if there may be one, where it is not given. */
static float *gradient_of(ha_call *call, const float *operand, const char *shape, int all)
{
    if (operand)
        return ha_call_out(call, shape);
    if (all)
        ha_call_out_none(call);
    return NULL;
}

static PyObject *run_vjp(PyObject *const object[OPERANDS], PyObject *dout_arg, PyObject *dstate_arg, PyObject *lengths,
                         PyObject *initial, int gated)
{
    ha_call call = ha_call_begin(NPY_FLOAT32);
    operands x = arguments(&call, object, gated);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const float *dout = ha_call_in(&call, dout_arg, "dout", "T H v", 0);
    x.initial = ha_call_in(&call, initial, "initial_state", "S H k v", 1);
    const float *dfinal = ha_call_in(&call, dstate_arg, "dstate", "S H k v", 1);
    ha_recurrence_out gradient = {.ldk = x.in.ldk, .ldv = x.in.ldv};
    gradient.q = ha_call_out(&call, "T H k");
    gradient.k = ha_call_out(&call, "T H k");
    gradient.v = ha_call_out(&call, "T H v");
    const int values = x.shape.gate == HA_GATE_VALUE;
    gradient.g = gradient_of(&call, values ? NULL : x.in.g, gates[x.shape.gate == HA_GATE_CHANNEL], !gated);
    gradient.beta = gradient_of(&call, x.in.beta, "T H", !gated);
    gradient.a = gradient_of(&call, x.in.a, "T H k", !gated);
    gradient.b = gradient_of(&call, x.in.b, "T H k", !gated);
    float *dgv = gradient_of(&call, values ? x.in.g : NULL, gates[2], !gated);
    gradient.g = values ? dgv : gradient.g;
    float *dstate = ha_call_out(&call, "S H k v"); /* of the final state on entry, of the initial one on return */
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        if (dfinal)
            memcpy(dstate, dfinal, (size_t)batch.n_seq * state_size(&x.shape) * sizeof *dstate);
        status = backward(&x, &batch, dout, dstate, &gradient, call.arena);
    }
    return ha_call_end(&call, status);
}

static PyObject *recurrence(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v", "g", "beta", "a", "b", "gv", "lengths", "initial_state", "return_state",
                            NULL};
    PyObject *object[OPERANDS] = {NULL}, *lengths = Py_None, *initial = Py_None;
    int return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOOOOOOp:recurrence", names, &object[Q], &object[K],
                                     &object[V], &object[G], &object[BETA], &object[A], &object[B], &object[GV],
                                     &lengths, &initial, &return_state))
        return NULL;
    return run(object, lengths, initial, return_state, 0);
}

static PyObject *recurrence_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v",  "dout",    "dstate",        "g", "beta",
                            "a", "b", "gv", "lengths", "initial_state", NULL};
    PyObject *object[OPERANDS] = {NULL}, *dout, *dstate = Py_None, *lengths = Py_None, *initial = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O$OOOOOOO:recurrence_vjp", names, &object[Q], &object[K],
                                     &object[V], &dout, &dstate, &object[G], &object[BETA], &object[A], &object[B],
                                     &object[GV], &lengths, &initial))
        return NULL;
    return run_vjp(object, dout, dstate, lengths, initial, 0);
}

static PyObject *gated_delta(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v", "g", "beta", "lengths", "initial_state", "return_state", NULL};
    PyObject *object[OPERANDS] = {NULL}, *lengths = Py_None, *initial = Py_None;
    int return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO|$OOp:gated_delta", names, &object[Q], &object[K], &object[V],
                                     &object[G], &object[BETA], &lengths, &initial, &return_state))
        return NULL;
    return run(object, lengths, initial, return_state, 1);
}

static PyObject *gated_delta_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"q", "k", "v", "g", "beta", "dout", "dstate", "lengths", "initial_state", NULL};
    PyObject *object[OPERANDS] = {NULL}, *dout, *dstate = Py_None, *lengths = Py_None, *initial = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO|O$OO:gated_delta_vjp", names, &object[Q], &object[K],
                                     &object[V], &object[G], &object[BETA], &dout, &dstate, &lengths, &initial))
        return NULL;
    return run_vjp(object, dout, dstate, lengths, initial, 1);
}

PyMethodDef ha_ops_recurrence[] = {
    HA_FUNCTION(
        recurrence,
        "recurrence(q, k, v, *, g=None, beta=None, a=None, b=None, gv=None, lengths=None, initial_state=None, "
        "return_state=False)\n--\n\n"
        "The linear recurrence of every mixer with a state of fixed size: per head S [dk,dv], u_t = S_{t-1}^T b_t,\n"
        "S_t = diag(exp(g_t)) S_{t-1} + a_t u_t^T + k_t v_t^T, o_t = S_t^T q_t. Without a and b nothing is erased; "
        "with\n"
        "beta instead it is the delta rule, S_t = diag(exp(g_t)) S_{t-1} + beta_t k_t (v_t - u_t)^T, b = exp(g) k.\n"
        "gv in the place of all of them decays the channels of v: S_t = S_{t-1} diag(exp(gv_t)) + k_t v_t^T.\n"
        "q, k, a, b [T,H,dk], v [T,H,dv], g <= 0 [T,H] or [T,H,dk] (None: no decay), gv <= 0 [T,H,dv], beta [T,H] -> "
        "[T,H,dv]; states\n"
        "[sequences,H,dk,dv], None: zero."),
    HA_FUNCTION(
        recurrence_vjp,
        "recurrence_vjp(q, k, v, dout, dstate=None, *, g=None, beta=None, a=None, b=None, gv=None, lengths=None, "
        "initial_state=None)\n--\n\n"
        "dout [T,H,dv], and dstate of the final state -> dq, dk, dv, dg, dbeta, da, db, dgv, dinitial_state; None for\n"
        "what was not given."),
    HA_FUNCTION(
        gated_delta,
        "gated_delta(q, k, v, g, beta, *, lengths=None, initial_state=None, return_state=False)\n--\n\n"
        "Gated delta rule (Yang, Kautz and Hatamizadeh 2024), per head with a state S [dk,dv]:\n"
        "S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - exp(g_t) S_{t-1}^T k_t)^T, o_t = S_t^T q_t.\n"
        "q, k [T,H,dk], v [T,H,dv], g <= 0 and beta [T,H] -> [T,H,dv]; states [sequences,H,dk,dv], None: zero."),
    HA_FUNCTION(gated_delta_vjp,
                "gated_delta_vjp(q, k, v, g, beta, dout, dstate=None, *, lengths=None, initial_state=None)\n--\n\n"
                "dout [T,H,dv], and dstate of the final state -> dq, dk, dv, dg, dbeta, dinitial_state."),
    {0},
};
