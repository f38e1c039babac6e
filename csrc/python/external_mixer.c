/* The passes of a Python mixer. */
#include "python/external_mixer.h"

#include "python/external_call.h"

static PyObject *lengths_of(const ha_batch *batch)
{
    npy_intp n = batch->n_seq;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INT64);
    for (int s = 0; array && s < batch->n_seq; s++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)array))[s] = batch->offset[s + 1] - batch->offset[s];
    return array;
}

void ha_external_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    static const char *const names[2][3] = {{"q_proj.weight", "k_proj.weight", "v_proj.weight"},
                                            {"q_proj.bias", "k_proj.bias", "v_proj.bias"}};
    const ha_config *c = mixer->config;
    const npy_intp rows[3] = {c->num_heads * c->head_dim, c->num_kv_heads * c->head_dim, c->num_kv_heads * c->head_dim};
    ha_callback call = ha_callback_begin(mixer);
    if (PyErr_Occurred()) { /* of the layer before */
        call.failed = 1;
        ha_callback_end(&call);
        return;
    }
    PyObject *given = PyDict_New(), *numpy = PyImport_ImportModule("numpy.random"), *made = NULL, *key, *shape;
    for (int bias = 0; bias < 2; bias++) {
        size_t at = softmax->at[bias ? HA_SLOT_QKV_BIAS : HA_SLOT_QKV];
        for (int i = 0; i < 3 && at != HA_NONE; i++) {
            const npy_intp size[2] = {rows[i], c->hidden_size};
            PyObject *array = ha_callback_view(&call, weights + at, 2 - bias, size);
            call.failed |= !array || PyDict_SetItemString(given, names[bias][i], array) < 0;
            Py_XDECREF(array);
            at += (size_t)rows[i] * (bias ? 1 : (size_t)c->hidden_size);
        }
        const npy_intp size[2] = {c->hidden_size, rows[0]};
        at = softmax->at[bias ? HA_SLOT_O_BIAS : HA_SLOT_O];
        PyObject *array = at == HA_NONE ? NULL : ha_callback_view(&call, weights + at, 2 - bias, size);
        call.failed |= array && PyDict_SetItemString(given, bias ? "o_proj.bias" : "o_proj.weight", array) < 0;
        Py_XDECREF(array);
    }
    PyObject *config = ha_external_config(c);
    PyObject *generator =
        numpy ? PyObject_CallMethod(numpy, "default_rng", "K", (unsigned long long)ha_rng_next(rng)) : NULL;
    PyObject *facts = ha_external_declared(call.kind, c);
    call.failed |= !config || !generator || !facts;
    if (!call.failed)
        made = PyObject_CallFunctionObjArgs(call.kind->init, generator, config, given, NULL);
    if (made && !PyDict_Check(made)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: init gave a %s, expected a dict of arrays", call.kind->name,
                     Py_TYPE(made)->tp_name);
        Py_CLEAR(made);
    }
    call.failed |= !made;
    Py_ssize_t at = 0;
    for (int i = 0; !call.failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &key, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        PyObject *array = PyDict_GetItemWithError(made, key);
        const int ndim = ha_shape_array(shape, size);
        if (!array && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "mixer %s: init gave no %U", call.kind->name, key);
        call.failed |= !array;
        memset(weights + mixer->at[i], 0, ha_shape_floats(shape) * sizeof *weights);
        ha_callback_add(&call, PyUnicode_AsUTF8(key), array, ndim, size, 1.0f, weights + mixer->at[i]);
    }
    Py_XDECREF(given);
    Py_XDECREF(numpy);
    Py_XDECREF(generator);
    Py_XDECREF(config);
    Py_XDECREF(made);
    ha_callback_end(&call); /* a pending exception is found by Model.init_mixers */
}

/* Runs one token of the sequences of `active` [n] through step: rows `row` [n] of x and out. */
static ha_status step(const ha_mixer *mixer, const ha_pass *pass, int n, const int *active, const int *row,
                      const float *x, float scale, float *out, ha_state *state)
{
    ha_callback call = ha_callback_begin(mixer);
    const npy_intp d = mixer->config->hidden_size;
    PyObject *facts = ha_external_declared(call.kind, mixer->config),
             *shape = facts ? PyTuple_GET_ITEM(facts, 1) : NULL;
    if (facts && (shape == Py_None || call.kind->step == Py_None)) {
        PyErr_Format(PyExc_NotImplementedError, "mixer %s was registered without step and state: it cannot decode",
                     call.kind->name);
        facts = NULL;
    }
    call.failed |= !facts;
    PyObject *held = NULL, *in = NULL, *pair[2] = {NULL, NULL};
    npy_intp size[HA_MAX_DIMS + 1] = {n}, wide[2] = {n, d};
    const size_t floats = call.failed ? 0 : ha_shape_floats(shape);
    const int ndim = call.failed ? 0 : 1 + ha_shape_array(shape, size + 1);
    if (!call.failed) {
        held = PyArray_SimpleNew(ndim, size, NPY_FLOAT32);
        in = PyArray_SimpleNew(2, wide, NPY_FLOAT32);
    }
    call.failed |= !held || !in;
    for (int i = 0; !call.failed && i < n; i++) {
        memcpy((float *)PyArray_DATA((PyArrayObject *)held) + (size_t)i * floats, state[active[i]].data,
               floats * sizeof(float));
        memcpy((float *)PyArray_DATA((PyArrayObject *)in) + i * d, x + row[i] * d, (size_t)d * sizeof(float));
    }
    PyObject *params = ha_callback_params(&call, mixer, pass->weights);
    if (!call.failed)
        ha_callback_pair(&call, "step", call.kind->step, PyTuple_Pack(3, params, held, in), pair);
    size_t mark = ha_arena_mark(pass->arena);
    float *y = ha_arena_push(pass->arena, (size_t)n * ((size_t)d + floats), sizeof *y), *next = y + n * d;
    if (y && !call.failed) {
        memset(y, 0, (size_t)n * ((size_t)d + floats) * sizeof *y);
        ha_callback_add(&call, "y of step", pair[0], 2, wide, scale, y);
        ha_callback_add(&call, "state of step", pair[1], ndim, size, 1.0f, next);
    }
    for (int i = 0; y && !call.failed && i < n; i++) {
        for (npy_intp c = 0; c < d; c++)
            out[row[i] * d + c] += y[i * d + c];
        memcpy(state[active[i]].data, next + (size_t)i * floats, floats * sizeof *next);
    }
    ha_arena_release(pass->arena, mark);
    Py_XDECREF(held);
    Py_XDECREF(in);
    Py_XDECREF(params);
    Py_XDECREF(pair[0]);
    Py_XDECREF(pair[1]);
    ha_status status = ha_callback_end(&call);
    return y ? status : HA_NO_MEMORY;
}

/* Token by token, the sequences side by side. */
static ha_status continue_sequences(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                                    ha_state *state)
{
    const ha_batch *batch = pass->batch;
    size_t mark = ha_arena_mark(pass->arena);
    int *active, *row, n = 1;
    HA_PUSH(active, pass->arena, (size_t)batch->n_seq);
    HA_PUSH(row, pass->arena, (size_t)batch->n_seq);
    for (int t = 0; n > 0; t++) {
        n = 0;
        for (int s = 0; s < batch->n_seq; s++)
            if (batch->offset[s] + t < batch->offset[s + 1]) {
                row[n] = batch->offset[s] + t;
                active[n++] = s;
            }
        if (n > 0)
            HA_TRY(step(mixer, pass, n, active, row, x, scale, out, state));
        if (ha_interrupted(pass->check))
            return HA_INTERRUPTED;
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* forward(params, x, lengths) -> pair */
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
        return continue_sequences(mixer, pass, x, scale, out, state);
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
    PyObject *facts = ha_external_declared(call->kind, mixer->config), *name, *shape;
    Py_ssize_t at = 0;
    if (!call->failed && !PyDict_Check(dparams)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: dparams of vjp is a %s, expected a dict", call->kind->name,
                     Py_TYPE(dparams)->tp_name);
        call->failed = 1;
    }
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        const int ndim = ha_shape_array(shape, size);
        PyObject *array = PyDict_GetItemWithError(dparams, name);
        if (!array && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "mixer %s: vjp gave no gradient of %U", call->kind->name, name);
        call->failed |= !array;
        ha_callback_add(call, PyUnicode_AsUTF8(name), array, ndim, size, 1.0f, grads + mixer->at[i]);
    }
}

ha_status ha_external_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                               const float *dout, float *dx, double *gate)
{
    (void)saved;
    const ha_batch *batch = pass->batch;
    const npy_intp d = mixer->config->hidden_size, wide[2] = {batch->rows, d};
    const size_t n = (size_t)batch->rows * (size_t)d, mark = ha_arena_mark(pass->arena);
    float *y, *dy;
    HA_PUSH(y, pass->arena, n);
    HA_PUSH(dy, pass->arena, n);
    memset(y, 0, n * sizeof *y);
    for (size_t i = 0; i < n; i++)
        dy[i] = scale * dout[i];
    ha_callback call = ha_callback_begin(mixer);
    PyObject *params = ha_callback_params(&call, mixer, pass->weights), *in = ha_callback_view(&call, x, 2, wide),
             *made[2], *slope[2] = {NULL, NULL};
    run_forward(&call, pass, params, in, made);
    if (gate)
        ha_callback_add(&call, "y of forward", made[0], 2, wide, 1.0f, y);
    for (int s = 0; gate && s < batch->n_seq; s++) {
        gate[s] = 0.0;
        for (ptrdiff_t i = (ptrdiff_t)batch->offset[s] * d; i < (ptrdiff_t)batch->offset[s + 1] * d; i++)
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
