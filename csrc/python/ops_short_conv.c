/* ops.short_conv, with states in and out. */
#include "python/ops.h"

#include <string.h>

#include "ops/ops.h"

#define SIZE(letter) ha_size(&call, letter)

static PyObject *short_conv(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "lengths", "initial_state", "return_state", NULL};
    PyObject *x_arg, *w_arg, *lengths = Py_None, *initial_arg = Py_None;
    int return_state = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOp:short_conv", names, &x_arg, &w_arg, &lengths, &initial_arg,
                                     &return_state))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d w", 0);
    ha_call_taps(&call);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    const float *initial = ha_call_in(&call, initial_arg, "initial_state", "S P d", 1);
    float *y = ha_call_out(&call, "T d"), *state = ha_call_out(&call, "S P d");
    ha_status status = HA_OK;
    if (ha_call_run(&call)) {
        const size_t size = (size_t)SIZE('P') * (size_t)SIZE('d');
        float **states;
        if (initial)
            memcpy(state, initial, (size_t)batch.n_seq * size * sizeof *state);
        status = ha_by_sequence(batch.n_seq, size, state, &states, call.arena);
        if (status == HA_OK)
            ha_short_conv_forward(&batch, SIZE('d'), SIZE('w'), x, SIZE('d'), w, states, y, SIZE('d'));
    }
    if (!return_state)
        ha_call_drop(&call);
    return ha_call_end(&call, status);
}

static PyObject *short_conv_vjp(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "weight", "dy", "lengths", NULL};
    PyObject *x_arg, *w_arg, *dy_arg, *lengths = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$O:short_conv_vjp", names, &x_arg, &w_arg, &dy_arg, &lengths))
        return NULL;
    ha_call call = ha_call_begin(NPY_FLOAT32);
    const float *x = ha_call_in(&call, x_arg, "x", "T d", 0), *w = ha_call_in(&call, w_arg, "weight", "d w", 0);
    const float *dy = ha_call_in(&call, dy_arg, "dy", "T d", 0);
    ha_call_taps(&call);
    ha_batch batch = {0};
    ha_call_batch(&call, lengths, "lengths", SIZE('T'), &batch);
    float *dx = ha_call_out(&call, "T d"), *dw = ha_call_out(&call, "d w");
    const int d = SIZE('d');
    if (ha_call_run(&call))
        ha_short_conv_backward(&batch, d, SIZE('w'), x, d, w, dy, d, dx, d, dw);
    return ha_call_end(&call, HA_OK);
}

PyMethodDef ha_ops_short_conv[] = {
    HA_FUNCTION(short_conv,
                "short_conv(x, weight, *, lengths=None, initial_state=None, return_state=False)\n--\n\n"
                "Depthwise causal convolution: y_t = sum_j weight[:,j] x_{t-w+1+j}, x [T,d],\n"
                "weight [d,w] with 2 to 16 taps -> [T,d]. A state [sequences,w-1,d] holds the last inputs."),
    HA_FUNCTION(short_conv_vjp, "short_conv_vjp(x, weight, dy, *, lengths=None)\n--\n\ndy [T,d] -> dx, dweight."),
    {0},
};
