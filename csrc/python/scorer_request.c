/* The arguments of KLScorer's methods, checked. */
#include "python/scorer_request.h"

#include "python/arrays.h"
#include "python/raise.h"

void ha_scorer_clear(scorer_request *request)
{
    Py_CLEAR(request->gates);
    Py_CLEAR(request->teacher_hidden);
    Py_CLEAR(request->weights);
    ha_windows_clear(&request->windows);
}

int ha_scorer_parse(scorer_object *self, const scorer_arguments *given, int shortest, scorer_request *request)
{
    model_object *model = self->model;
    windows_arg *windows = &request->windows;
    *request = (scorer_request){0};
    if (ha_windows_parse(model, given->tokens, given->windows, given->segments, shortest, windows) < 0)
        return -1;
    const npy_intp shape[2] = {PyArray_DIM(windows->tokens, 0), model->model->config.hidden_size};
    request->gates = ha_gates_parse(model, given->gates);
    if (request->gates && given->teacher_hidden != Py_None)
        request->teacher_hidden = ha_array_arg(given->teacher_hidden, "teacher_hidden", NPY_FLOAT32, 2, shape);
    if (request->gates && !PyErr_Occurred() && given->weights != Py_None)
        request->weights = ha_weights_parse(model, windows, given->weights);
    if (PyErr_Occurred()) {
        ha_scorer_clear(request);
        return -1;
    }
    request->core =
        (ha_scorer){.model = model->model,
                    .teacher = self->teacher ? self->teacher->model : NULL,
                    .arena = &model->arena,
                    .check = &ha_signals,
                    .teacher_hidden = request->teacher_hidden ? PyArray_DATA(request->teacher_hidden) : NULL,
                    .weight = request->weights ? PyArray_DATA(request->weights) : NULL,
                    .layer_passes = &self->layer_passes};
    return 0;
}

int ha_flip_layers_parse(const ha_model *model, PyObject *object, int **out)
{
    *out = NULL;
    PyObject *list = ha_tuple_arg(object, "layers", "a sequence of layer numbers");
    if (!list)
        return -1;
    const Py_ssize_t count = PyTuple_GET_SIZE(list);
    *out = PyMem_Calloc((size_t)count + 1, sizeof **out);
    if (!*out)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; *out && i < count; i++) {
        const long l = PyLong_AsLong(PyTuple_GET_ITEM(list, i));
        if (!PyErr_Occurred() && (l < 0 || l >= model->config.num_layers || (i > 0 && l <= (*out)[i - 1])))
            PyErr_Format(PyExc_ValueError, "layers[%zd] is %ld, allowed are ascending numbers from 0 to %d", i, l,
                         model->config.num_layers - 1);
        else if (!PyErr_Occurred() && !(model->layer[l].softmax.kind && model->layer[l].linear.kind))
            PyErr_Format(PyExc_ValueError, "layer %ld has only one mixer: flip needs a probe", l);
        if (PyErr_Occurred()) {
            PyMem_Free(*out);
            *out = NULL;
            break;
        }
        (*out)[i] = (int)l;
    }
    Py_DECREF(list);
    return *out ? (int)count : -1;
}
