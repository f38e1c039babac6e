/* The passes of a Python mixer. */
#include "python/external_mixer.h"

#include "python/external_call.h"
#include "python/external_step.h"

/* int64 [n_seq]; a new reference */
static PyObject *lengths_of(const ha_batch *batch)
{
    npy_intp count = batch->n_seq;
    PyObject *array = PyArray_SimpleNew(1, &count, NPY_INT64);
    for (int s = 0; array && s < batch->n_seq; s++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)array))[s] = batch->offset[s + 1] - batch->offset[s];
    return array;
}

/* forward(params, x [rows,hidden], lengths) -> (y, saved), new references; NULL after a failure */
static void run_forward(ha_callback *call, const ha_pass *pass, PyObject *params, PyObject *x, PyObject *pair[2])
{
    PyObject *lengths = lengths_of(pass->batch);
    call->failed |= !lengths;
    pair[0] = pair[1] = NULL;
    if (!call->failed)
        ha_callback_pair(call, "forward", call->kind->forward, PyTuple_Pack(3, params, x, lengths), pair);
    Py_XDECREF(lengths);
}

ha_status ha_external_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                              float *saved, ha_state *state)
{
    (void)saved;
    if (state)
        return ha_external_continue(mixer, pass, x, scale, out, state);
    const npy_intp wide[2] = {pass->batch->rows, mixer->config->hidden_size};
    ha_callback call = ha_callback_begin(mixer);
    PyObject *params = ha_callback_params(&call, mixer, pass->weights), *in = ha_callback_view(&call, x, 2, wide),
             *pair[2];
    run_forward(&call, pass, params, in, pair);
    ha_callback_add(&call, "y of forward", pair[0], 2, wide, scale, out);
    Py_XDECREF(params);
    Py_XDECREF(in);
    Py_XDECREF(pair[0]);
    Py_XDECREF(pair[1]);
    return ha_callback_end(&call);
}

/* grads += dparams, each name of the mixer once */
static void add_gradients(ha_callback *call, const ha_mixer *mixer, PyObject *dparams, float *grads)
{
    if (!call->failed && !PyDict_Check(dparams)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: dparams of vjp is a %s, expected a dict", call->kind->name,
                     Py_TYPE(dparams)->tp_name);
        call->failed = 1;
    }
    if (!call->failed)
        ha_callback_add_params(call, mixer, "vjp gave no gradient of", dparams, grads);
}

ha_status ha_external_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                               const float *dout, float *dx, double *gate)
{
    (void)saved;
    const ha_batch *batch = pass->batch;
    const npy_intp hidden = mixer->config->hidden_size, wide[2] = {batch->rows, hidden};
    const size_t count = (size_t)batch->rows * (size_t)hidden, mark = ha_arena_mark(pass->arena);
    float *y, *dy;
    HA_PUSH(y, pass->arena, count);
    HA_PUSH(dy, pass->arena, count);
    memset(y, 0, count * sizeof *y);
    for (size_t i = 0; i < count; i++)
        dy[i] = scale * dout[i];
    ha_callback call = ha_callback_begin(mixer);
    PyObject *params = ha_callback_params(&call, mixer, pass->weights), *in = ha_callback_view(&call, x, 2, wide),
             *made[2], *slope[2] = {NULL, NULL};
    run_forward(&call, pass, params, in, made);
    if (gate)
        ha_callback_add(&call, "y of forward", made[0], 2, wide, 1.0f, y);
    for (int s = 0; gate && s < batch->n_seq; s++) {
        gate[s] = 0.0;
        for (ptrdiff_t i = (ptrdiff_t)batch->offset[s] * hidden; i < (ptrdiff_t)batch->offset[s + 1] * hidden; i++)
            gate[s] += (double)dout[i] * (double)y[i];
    }
    if (scale != 0.0f && !call.failed) {
        PyObject *up = ha_callback_view(&call, dy, 2, wide);
        if (up)
            ha_callback_pair(&call, "vjp", call.kind->vjp, PyTuple_Pack(3, params, made[1], up), slope);
        Py_XDECREF(up);
        if (dx)
            ha_callback_add(&call, "dx of vjp", slope[0], 2, wide, 1.0f, dx);
        if (pass->grads)
            add_gradients(&call, mixer, slope[1], pass->grads);
    }
    Py_XDECREF(params);
    Py_XDECREF(in);
    for (int i = 0; i < 2; i++) {
        Py_XDECREF(made[i]);
        Py_XDECREF(slope[i]);
    }
    const ha_status status = ha_callback_end(&call); /* before `dy` goes: it may be copied */
    ha_arena_release(pass->arena, mark);
    return status;
}
