/* Streams with windows, weights and gates, checked. */
#include "python/windows_arg.h"

#include "python/arrays.h"
#include "python/raise.h"

void ha_windows_clear(windows_arg *arg)
{
    Py_CLEAR(arg->tokens);
    Py_CLEAR(arg->segments);
    Py_CLEAR(arg->windows);
}

/* 0 when every window lies in the stream with enough tokens, and every token is in the vocabulary;
 * else -1 with a ValueError. */
static int check_windows(const windows_arg *arg, int vocabulary, int shortest)
{
    const npy_intp count = PyArray_SIZE(arg->tokens);
    const int32_t *token = PyArray_DATA(arg->tokens);
    const int64_t *window = PyArray_DATA(arg->windows);
    for (npy_intp i = 0; i < PyArray_SIZE(arg->windows) / 2; i++) {
        int64_t from = window[2 * i], to = window[2 * i + 1];
        if (from < 0 || to > count || to - from < shortest || to - from > INT32_MAX / 2) {
            PyErr_Format(PyExc_ValueError, "window %zd is [%lld, %lld), allowed are at least %d of the %zd tokens",
                         (Py_ssize_t)i, (long long)from, (long long)to, shortest, (Py_ssize_t)count);
            return -1;
        }
    }
    for (npy_intp i = 0; i < count; i++)
        if (token[i] < 0 || token[i] >= vocabulary) {
            PyErr_Format(PyExc_ValueError, "tokens[%zd] is %d, allowed are 0 to %d", (Py_ssize_t)i, token[i],
                         vocabulary - 1);
            return -1;
        }
    return 0;
}

int ha_windows_parse(model_object *model, PyObject *tokens, PyObject *windows, PyObject *segments, int shortest,
                     windows_arg *out)
{
    *out = (windows_arg){0};
    out->tokens = ha_array_arg(tokens, "tokens", NPY_INT32, 1, NULL);
    PyArrayObject *given = out->tokens ? ha_array_arg(windows, "windows", NPY_INT64, -1, NULL) : NULL;
    out->windows = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    if (out->windows &&
        (PyArray_NDIM(out->windows) < 2 || PyArray_DIM(out->windows, PyArray_NDIM(out->windows) - 1) != 2)) {
        PyErr_SetString(PyExc_ValueError, "windows must have (start, stop) pairs along its last axis");
        Py_CLEAR(out->windows);
    }
    if (out->windows && segments != Py_None &&
        !(out->segments = ha_array_arg(segments, "segments", NPY_INT32, 1, PyArray_DIMS(out->tokens))))
        Py_CLEAR(out->windows);
    if (!out->windows || check_windows(out, model->model->config.vocab_size, shortest) < 0) {
        ha_windows_clear(out);
        return -1;
    }
    out->view =
        (ha_windows){PyArray_DATA(out->tokens), PyArray_DATA(out->windows), (int)(PyArray_SIZE(out->windows) / 2),
                     model->model->config.vocab_size, out->segments ? PyArray_DATA(out->segments) : NULL};
    return 0;
}

/* The first window without any weight, or -1. */
static int unweighted(const ha_windows *windows, const float *weight, int skip)
{
    for (int i = 0; i < windows->count; i++) {
        double sum = 0.0;
        for (int64_t t = windows->window[2 * i] + skip; t < windows->window[2 * i + 1]; t++)
            sum += (double)weight[t];
        if (!(sum > 0.0))
            return i;
    }
    return -1;
}

PyArrayObject *ha_weights_parse(model_object *model, const windows_arg *windows, PyObject *object)
{
    const int skip = !model->model->config.bidirectional;
    PyArrayObject *array = ha_array_arg(object, "weights", NPY_FLOAT32, 1, PyArray_DIMS(windows->tokens));
    const float *weight = array ? PyArray_DATA(array) : NULL;
    if (array && !ha_distance_by_token(model->model))
        PyErr_SetString(PyExc_ValueError, "weights are of tokens, but a model with a task is compared by sequence");
    for (npy_intp i = 0; array && !PyErr_Occurred() && i < PyArray_SIZE(array); i++)
        if (!(weight[i] >= 0.0f && weight[i] <= 1e30f))
            PyErr_Format(PyExc_ValueError, "weights[%zd] is not a finite number of 0 or more", (Py_ssize_t)i);
    int empty = array && !PyErr_Occurred() ? unweighted(&windows->view, weight, skip) : -1;
    if (empty >= 0)
        PyErr_Format(PyExc_ValueError, "weights are 0 on all tokens of window %d%s", empty,
                     skip ? " but its first" : "");
    if (array && PyErr_Occurred())
        Py_CLEAR(array);
    return array;
}

PyArrayObject *ha_gates_parse(model_object *model, PyObject *object)
{
    const npy_intp shape[1] = {model->model->config.num_layers};
    PyArrayObject *given = NULL, *own;
    if (object != Py_None && !(given = ha_array_arg(object, "gates", NPY_FLOAT32, 1, shape)))
        return NULL;
    own = (PyArrayObject *)PyArray_SimpleNew(1, shape, NPY_FLOAT32);
    ha_status status = own ? ha_gates_of(model->model, given ? PyArray_DATA(given) : NULL, PyArray_DATA(own)) : HA_OK;
    if (status != HA_OK) {
        ha_raise(status);
        Py_CLEAR(own);
    }
    Py_XDECREF(given);
    return own;
}
