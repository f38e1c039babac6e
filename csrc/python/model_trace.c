/* Model.trace_layer: what one layer reads and gives on windows of a stream. */
#include "python/model_trace.h"

#include "python/arrays.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/windows_arg.h"

/* A new array in the dictionary, which owns it: its data, or NULL with an exception. */
static void *entry(PyObject *found, const char *name, int type, npy_intp rows, npy_intp columns)
{
    const npy_intp shape[2] = {rows, columns};
    PyArrayObject *array = (PyArrayObject *)PyArray_ZEROS(2, shape, type, 0);
    void *data = array && PyDict_SetItemString(found, name, (PyObject *)array) == 0 ? PyArray_DATA(array) : NULL;
    Py_XDECREF(array);
    return data;
}

static int is_both(const ha_layer *layer)
{
    return layer->softmax.kind && layer->linear.kind;
}

/* The results that are wanted, as arrays of a new dictionary. */
static PyObject *new_results(const ha_model *m, const ha_layer *layer, int linear, npy_intp rows, ha_trace *to)
{
    const npy_intp d = m->config.hidden_size;
    PyObject *found = PyDict_New();
    if (!found)
        return NULL;
    if (linear)
        to->linear_read = entry(found, "linear_read", NPY_FLOAT32, rows, ha_inner(&layer->linear));
    else
        to->stream = entry(found, "stream", NPY_FLOAT32, rows, d);
    if (!linear && is_both(layer) && !PyErr_Occurred()) {
        to->input = entry(found, "input", NPY_FLOAT32, rows, d);
        to->softmax_read = entry(found, "softmax_read", NPY_FLOAT32, rows, ha_inner(&layer->softmax));
        to->softmax_output = entry(found, "softmax_output", NPY_FLOAT32, rows, d);
        to->reach = entry(found, "reach", NPY_FLOAT64, m->config.num_heads, 3);
    }
    if (PyErr_Occurred())
        Py_CLEAR(found);
    return found;
}

PyObject *ha_model_trace_layer(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"layer", "tokens", "windows", "incoming", "linear", "segments", NULL};
    PyObject *tokens, *windows, *incoming = Py_None, *segments = Py_None, *found = NULL;
    PyArrayObject *in = NULL;
    windows_arg stream;
    ha_trace to = {0};
    npy_intp rows = 0;
    int layer, linear = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iOO|OpO:trace_layer", names, &layer, &tokens, &windows, &incoming,
                                     &linear, &segments) ||
        !ha_model_ready(self))
        return NULL;
    const ha_config *config = &self->model->config;
    if (layer < 0 || layer >= config->num_layers || (layer > 0) != (incoming != Py_None))
        return PyErr_Format(PyExc_ValueError,
                            "layer is %d, allowed are 0 to %d, with incoming rows for all but the first one", layer,
                            config->num_layers - 1);
    if (linear && !is_both(&self->model->layer[layer]))
        return PyErr_Format(PyExc_ValueError, "linear is True, allowed in layer %d is False: it has one mixer", layer);
    if (ha_windows_parse(self, tokens, windows, segments, 1, &stream) < 0)
        return NULL;
    for (int i = 0; i < stream.view.count; i++)
        rows += (npy_intp)(stream.view.window[2 * i + 1] - stream.view.window[2 * i]);
    const npy_intp shape[2] = {rows, config->hidden_size};
    if (layer > 0)
        in = ha_array_arg(incoming, "incoming", NPY_FLOAT32, 2, shape);
    if (in || layer == 0)
        found = new_results(self->model, &self->model->layer[layer], linear, rows, &to);
    ha_status status = HA_OK;
    if (found) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = ha_windows_trace(self->model, layer, &stream.view, in ? PyArray_DATA(in) : NULL, &to,
                                           &self->arena, &ha_signals);
        status = ha_core_end(&core);
    }
    Py_XDECREF(in);
    ha_windows_clear(&stream);
    if (status != HA_OK) {
        Py_CLEAR(found);
        ha_raise(status);
    }
    return found;
}
