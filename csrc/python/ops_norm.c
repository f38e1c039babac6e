/* ops of norms and activations: rms_norm, head_norm, layer_norm, activation. */
#include "python/ops.h"

#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

/* RMSNorm of x [T,d], or head by head of x [T,H,d]; vjp: also its gradients. */
static PyObject *rms(PyObject *args, PyObject *kwargs, const char *format, const char *shape, int vjp)
{
    static char *names[2][5] = {{"x", "weight", "eps", NULL}, {"x", "weight", "dy", "eps", NULL}};
    PyObject *x_arg, *w_arg, *dy_arg = NULL;
    double eps = 1e-6;
    int ok = vjp ? PyArg_ParseTupleAndKeywords(args, kwargs, format, names[1], &x_arg, &w_arg, &dy_arg, &eps)
                 : PyArg_ParseTupleAndKeywords(args, kwargs, format, names[0], &x_arg, &w_arg, &eps);
    if (!ok)
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", shape, 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0),
                *dy = vjp ? ha_call_in(&call, dy_arg, "dy", shape, 0) : NULL;
    float *y = ha_call_out(&call, shape), *dw = vjp ? ha_call_out(&call, "d") : NULL;
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const int heads = SIZE('H') ? SIZE('H') : 1, d = SIZE('d'), ld = heads * d;
        if (vjp)
            status = ha_head_norm_backward(SIZE('T'), heads, d, x, ld, w, (float)eps, dy, ld, y, ld, dw, call.arena);
        else
            ha_head_norm_forward(SIZE('T'), heads, d, x, ld, w, (float)eps, y, ld);
    }
    return ha_call_end(&call, status);
}

static PyObject *rms_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rms(args, kwargs, "OO|$d:rms_norm", "T d", 0);
}

static PyObject *rms_norm_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rms(args, kwargs, "OOO|$d:rms_norm_vjp", "T d", 1);
}

static PyObject *head_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rms(args, kwargs, "OO|$d:head_norm", "T H d", 0);
}

static PyObject *head_norm_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return rms(args, kwargs, "OOO|$d:head_norm_vjp", "T H d", 1);
}

static PyObject *layer_norm(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", "eps", NULL};
    PyObject *x_arg, *w_arg, *b_arg;
    double eps = 1e-5;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$d:layer_norm", names, &x_arg, &w_arg, &b_arg, &eps))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0),
                *b = ha_call_in(&call, b_arg, "bias", "d", 0);
    float *y = ha_call_out(&call, "T d");
    if (ha_call_run(&call))
        ha_layer_norm_forward(SIZE('T'), SIZE('d'), x, SIZE('d'), w, b, (float)eps, y, SIZE('d'));
    return ha_call_end(&call, HA_OK);
}

static PyObject *layer_norm_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "bias", "dy", "eps", NULL};
    PyObject *x_arg, *w_arg, *b_arg, *dy_arg;
    double eps = 1e-5;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|$d:layer_norm_vjp", names, &x_arg, &w_arg, &b_arg, &dy_arg,
                                     &eps))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d", 0);
    ha_call_in(&call, b_arg, "bias", "d", 0);
    const float *dy = ha_call_in(&call, dy_arg, "dy", "T d", 0);
    float *dx = ha_call_out(&call, "T d"), *dw = ha_call_out(&call, "d"), *db = ha_call_out(&call, "d");
    ha_status status = HA_OK;
    const int d = SIZE('d');
    if (ha_call_run(&call))
        status = ha_layer_norm_backward(SIZE('T'), d, x, d, w, (float)eps, dy, d, dx, d, dw, db, call.arena);
    return ha_call_end(&call, status);
}

static PyObject *activation(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "kind", NULL};
    PyObject *x_arg;
    const char *name = "gelu";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$s:activation", names, &x_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T f", 0);
    const ha_act kind = ha_call_act(&call, name);
    float *y = ha_call_out(&call, "T f");
    if (ha_call_run(&call))
        ha_act_forward(kind, (size_t)SIZE('T') * (size_t)SIZE('f'), x, y);
    return ha_call_end(&call, HA_OK);
}

static PyObject *activation_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "dy", "kind", NULL};
    PyObject *x_arg, *dy_arg;
    const char *name = "gelu";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$s:activation_vjp", names, &x_arg, &dy_arg, &name))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T f", 0), *dy = ha_call_in(&call, dy_arg, "dy", "T f", 0);
    const ha_act kind = ha_call_act(&call, name);
    float *dx = ha_call_out(&call, "T f");
    if (ha_call_run(&call)) {
        const size_t n = (size_t)SIZE('T') * (size_t)SIZE('f');
        memcpy(dx, x, n * sizeof *dx);
        ha_act_backward(kind, n, dx, dy, NULL);
    }
    return ha_call_end(&call, HA_OK);
}

PyMethodDef ha_ops_norm[] = {
    HA_FUNCTION(
        rms_norm,
        "rms_norm(x, weight, *, eps=1e-6)\n--\n\nx weight / sqrt(mean(x^2) + eps): x [T,d], weight [d] -> [T,d]."),
    HA_FUNCTION(rms_norm_vjp, "rms_norm_vjp(x, weight, dy, *, eps=1e-6)\n--\n\ndy [T,d] -> dx, dweight."),
    HA_FUNCTION(head_norm, "head_norm(x, weight, *, eps=1e-6)\n--\n\nrms_norm of every head: x [T,H,d], weight [d]."),
    HA_FUNCTION(head_norm_vjp, "head_norm_vjp(x, weight, dy, *, eps=1e-6)\n--\n\ndy [T,H,d] -> dx, dweight."),
    HA_FUNCTION(layer_norm, "layer_norm(x, weight, bias, *, eps=1e-5)\n--\n\n"
                            "(x - mean) weight / sqrt(mean((x - mean)^2) + eps) + bias: x [T,d], weight, bias [d]."),
    HA_FUNCTION(layer_norm_vjp,
                "layer_norm_vjp(x, weight, bias, dy, *, eps=1e-5)\n--\n\ndy [T,d] -> dx, dweight, dbias."),
    HA_FUNCTION(activation, "activation(x, *, kind='gelu')\n--\n\nx [T,f]; kind: 'gelu' (x Phi(x)), 'gelu_tanh' (its "
                            "form with a tanh), 'relu', 'silu', 'sigmoid', 'tanh' or 'none'."),
    HA_FUNCTION(activation_vjp, "activation_vjp(x, dy, *, kind='gelu')\n--\n\ndy [T,f] -> dx."),
    {0},
};
