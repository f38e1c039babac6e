/* Token arguments: [B,T] arrays with padding become a stream without any; streams with windows are checked. */
#include "python/objects.h"

void ha_pack_clear(packed *p)
{
    PyMem_Free(p->token);
    PyMem_Free(p->segment);
    PyMem_Free(p->window);
    PyMem_Free(p->first);
    *p = (packed){0};
}

/* Real tokens of a mask row are one run [*from, *to). */
static int run_of(const npy_bool *mask, int width, int row, int *from, int *to)
{
    *from = 0;
    while (*from < width && !mask[*from])
        ++*from;
    *to = *from;
    while (*to < width && mask[*to])
        ++*to;
    for (int i = *to; i < width; i++)
        if (mask[i]) {
            PyErr_Format(PyExc_ValueError,
                         "mask row %d has a gap at column %d: padding may stand before or after the tokens only", row,
                         *to);
            return -1;
        }
    if (*from == *to) {
        PyErr_Format(PyExc_ValueError, "mask row %d hides every token", row);
        return -1;
    }
    return 0;
}

static int fill(model_object *model, PyArrayObject *tokens, PyArrayObject *mask, PyArrayObject *segments, packed *p)
{
    const int32_t *token = PyArray_DATA(tokens), *segment = segments ? PyArray_DATA(segments) : NULL;
    const int vocabulary = model->model->config.vocab_size;
    for (int s = 0; s < p->n_seq; s++) {
        int from = 0, to = p->width;
        if (mask &&
            run_of((const npy_bool *)PyArray_DATA(mask) + (size_t)s * (size_t)p->width, p->width, s, &from, &to) < 0)
            return -1;
        p->first[s] = from;
        p->window[2 * s] = p->rows;
        for (int t = from; t < to; t++) {
            int32_t id = token[(size_t)s * (size_t)p->width + (size_t)t];
            if (id < 0 || id >= vocabulary) {
                PyErr_Format(PyExc_ValueError, "tokens[%d, %d] is %d, allowed are 0 to %d", s, t, id, vocabulary - 1);
                return -1;
            }
            if (segment)
                p->segment[p->rows] = segment[(size_t)s * (size_t)p->width + (size_t)t];
            p->token[p->rows++] = id;
        }
        p->window[2 * s + 1] = p->rows;
    }
    return 0;
}

int ha_pack(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed *p)
{
    *p = (packed){0};
    PyArrayObject *mask_array = NULL, *segment_array = NULL,
                  *array = ha_array_arg(tokens, "tokens", NPY_INT32, 2, NULL);
    int ok = -1;
    if (!array)
        return -1;
    npy_intp *shape = PyArray_DIMS(array);
    if (shape[0] < 1 || shape[1] < 1 || shape[0] * shape[1] > INT32_MAX / 2) {
        PyErr_Format(PyExc_ValueError, "tokens has shape (%zd, %zd), allowed is at least one sequence of one token",
                     (Py_ssize_t)shape[0], (Py_ssize_t)shape[1]);
        goto done;
    }
    if (mask && mask != Py_None && !(mask_array = ha_array_arg(mask, "mask", NPY_BOOL, 2, shape)))
        goto done;
    if (segments != Py_None && !(segment_array = ha_array_arg(segments, "segments", NPY_INT32, 2, shape)))
        goto done;
    p->n_seq = (int)shape[0];
    p->width = (int)shape[1];
    p->token = PyMem_Calloc((size_t)(shape[0] * shape[1]), sizeof *p->token);
    if (segment_array)
        p->segment = PyMem_Calloc((size_t)(shape[0] * shape[1]), sizeof *p->segment);
    p->window = PyMem_Calloc((size_t)shape[0] * 2, sizeof *p->window);
    p->first = PyMem_Calloc((size_t)shape[0], sizeof *p->first);
    if (!p->token || (segment_array && !p->segment) || !p->window || !p->first)
        PyErr_NoMemory();
    else
        ok = fill(model, array, mask_array, segment_array, p);
done:
    Py_DECREF(array);
    Py_XDECREF(mask_array);
    Py_XDECREF(segment_array);
    if (ok < 0)
        ha_pack_clear(p);
    return ok;
}

void ha_windows_clear(windows_arg *arg)
{
    Py_CLEAR(arg->tokens);
    Py_CLEAR(arg->segments);
    Py_CLEAR(arg->windows);
}

static int check_windows(const windows_arg *a, int vocabulary, int shortest)
{
    const npy_intp n = PyArray_SIZE(a->tokens);
    const int32_t *token = PyArray_DATA(a->tokens);
    const int64_t *window = PyArray_DATA(a->windows);
    for (npy_intp i = 0; i < PyArray_SIZE(a->windows) / 2; i++) {
        int64_t from = window[2 * i], to = window[2 * i + 1];
        if (from < 0 || to > n || to - from < shortest || to - from > INT32_MAX / 2) {
            PyErr_Format(PyExc_ValueError, "window %zd is [%lld, %lld), allowed are at least %d of the %zd tokens",
                         (Py_ssize_t)i, (long long)from, (long long)to, shortest, (Py_ssize_t)n);
            return -1;
        }
    }
    for (npy_intp i = 0; i < n; i++)
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
static int unweighted(const ha_windows *w, const float *weight, int skip)
{
    for (int i = 0; i < w->count; i++) {
        double sum = 0.0;
        for (int64_t t = w->window[2 * i] + skip; t < w->window[2 * i + 1]; t++)
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
