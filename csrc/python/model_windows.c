/* Model.forward_windows, Model.moments and Model.task_logits: forward passes over windows of a
 * token stream. */
#include "python/model_windows.h"

#include "python/arrays.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/windows_arg.h"

PyObject *ha_model_forward_windows(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "out", "segments", NULL};
    PyObject *tokens, *windows, *out, *segments = Py_None;
    windows_arg stream;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:forward_windows", names, &tokens, &windows, &out, &segments))
        return NULL;
    if (!ha_model_ready(self) || ha_windows_parse(self, tokens, windows, segments, 1, &stream) < 0)
        return NULL;
    const npy_intp shape[2] = {PyArray_DIM(stream.tokens, 0), self->model->config.hidden_size};
    PyArrayObject *to = ha_array_out(out, "out", NPY_FLOAT32, 2, shape);
    ha_status status = HA_OK;
    if (to) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = ha_windows_hidden(self->model, &stream.view, PyArray_DATA(to), &self->arena, &ha_signals);
        status = ha_core_end(&core);
    }
    ha_windows_clear(&stream);
    if (!to)
        return NULL;
    Py_DECREF(to);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

/* The parameter that a matrix of a layer is joined to, or itself; -1 with an exception. */
static int leader_of(const ha_params *params, PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    const ha_param *param = text ? ha_params_find(params, text) : NULL;
    if (text && (!param || !param->matrix || param->layer < 0))
        PyErr_Format(PyExc_ValueError, "names holds '%s': allowed are matrices() of layers", text);
    if (!param || !param->matrix || param->layer < 0)
        return -1;
    while (param->joined)
        param--;
    return (int)(param - params->list);
}

/* The array of `name` in what an earlier call gave; a new reference. */
static PyObject *earlier(PyObject *into, PyObject *name, const npy_intp *shape)
{
    PyObject *array = PyDict_Check(into) ? PyDict_GetItemWithError(into, name) : NULL;
    if (!array && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "into must be what moments() gave for the same names: it has no %R", name);
    return array ? (PyObject *)ha_array_out(array, "into", NPY_FLOAT32, 2, shape) : NULL;
}

/* {name: float32 [in,in]}, of zeros or as in `into` unless that is None, the same array for matrices that are
 * joined; sums [params->count] points into them. */
static PyObject *new_moments(const ha_params *params, PyObject *names, PyObject *into, float **sums)
{
    PyObject *found = PyDict_New(), **arrays = PyMem_Calloc((size_t)params->count, sizeof *arrays), *name;
    PyObject *each = found && arrays ? PyObject_GetIter(names) : NULL;
    while (each && (name = PyIter_Next(each))) {
        const int i = PyUnicode_Check(name) ? leader_of(params, name) : -1;
        if (i < 0 && !PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "names must be text");
        const npy_intp width = i < 0 ? 0 : params->list[i].shape[1], shape[2] = {width, width};
        if (i >= 0 && !arrays[i])
            arrays[i] = into == Py_None ? PyArray_ZEROS(2, shape, NPY_FLOAT32, 0) : earlier(into, name, shape);
        if (i < 0 || !arrays[i] || PyDict_SetItem(found, name, arrays[i]) < 0)
            Py_CLEAR(each);
        else
            sums[i] = PyArray_DATA((PyArrayObject *)arrays[i]);
        Py_DECREF(name);
    }
    for (int i = 0; arrays && i < params->count; i++)
        Py_XDECREF(arrays[i]); /* the dictionary holds them */
    if (!arrays)
        PyErr_NoMemory();
    PyMem_Free(arrays);
    Py_XDECREF(each);
    if (PyErr_Occurred())
        Py_CLEAR(found);
    return found;
}

PyObject *ha_model_moments(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "names", "segments", "into", NULL};
    PyObject *tokens, *windows, *wanted, *segments = Py_None, *into = Py_None;
    windows_arg stream;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OO:moments", names, &tokens, &windows, &wanted, &segments,
                                     &into) ||
        !ha_model_ready(self) || ha_windows_parse(self, tokens, windows, segments, 1, &stream) < 0)
        return NULL;
    float **sums = PyMem_Calloc((size_t)self->model->params.count, sizeof *sums);
    PyObject *found = sums ? new_moments(&self->model->params, wanted, into, sums) : PyErr_NoMemory();
    ha_status status = HA_OK;
    if (found) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = ha_windows_observe(self->model, &stream.view, sums, &self->arena, &ha_signals);
        status = ha_core_end(&core);
    }
    PyMem_Free(sums);
    ha_windows_clear(&stream);
    if (status != HA_OK) {
        Py_CLEAR(found);
        ha_raise(status);
    }
    return found;
}

PyObject *ha_model_task_logits(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "segments", NULL};
    PyObject *tokens, *windows, *segments = Py_None;
    windows_arg stream;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:task_logits", names, &tokens, &windows, &segments) ||
        !ha_model_ready(self))
        return NULL;
    const ha_task *task = &self->model->config.task;
    if (task->kind == HA_TASK_NONE)
        return PyErr_Format(PyExc_ValueError,
                            "the model has no head for a task: allowed are models with one, see tasks.add_head");
    if (ha_windows_parse(self, tokens, windows, segments, 1, &stream) < 0)
        return NULL;
    const npy_intp shape[2] = {task->kind == HA_TASK_SPAN ? PyArray_DIM(stream.tokens, 0) : stream.view.count,
                               task->labels};
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_FLOAT32, 0);
    ha_status status = HA_OK;
    if (out) {
        ha_core_call core = ha_core_begin(self, NULL);
        if (core.status == HA_OK)
            core.status = ha_windows_task(self->model, &stream.view, PyArray_DATA(out), &self->arena, &ha_signals);
        status = ha_core_end(&core);
    }
    ha_windows_clear(&stream);
    if (status != HA_OK) {
        Py_CLEAR(out);
        ha_raise(status);
    }
    return (PyObject *)out;
}
