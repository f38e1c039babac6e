/* One callback of a Python mixer: arrays out, results back. */
#include "python/external_call.h"

#include "python/model_lock.h"

ha_callback ha_callback_begin(const ha_mixer *mixer)
{
    ha_callback call = {.gil = PyGILState_Ensure(), .kind = ha_external_of(mixer)};
    call.views = PyList_New(0);
    call.models = ha_models_in_use();
    call.failed = !call.views || !call.models;
    return call;
}

/* True when someone has a reference to view i beside the list. */
static int kept(const ha_callback *call, Py_ssize_t i)
{
    return Py_REFCNT(PyList_GET_ITEM(call->views, i)) > 1;
}

/* True when someone has a reference to any view. */
static int any_kept(const ha_callback *call)
{
    int any = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(call->views); i++)
        any |= kept(call, i);
    return any;
}

/* Views that someone kept, a traceback for one, get numbers of their own. What was cut from them
 * before still points into the models, so they keep those too; where there is no memory for a copy,
 * that is all they do. */
static void detach(const ha_callback *call)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(call->views); i++) {
        if (!kept(call, i))
            continue;
        PyArrayObject *view = (PyArrayObject *)PyList_GET_ITEM(call->views, i),
                      *copy = (PyArrayObject *)PyArray_NewCopy(view, NPY_CORDER);
        PyObject *owners = copy ? PyTuple_Pack(2, copy, call->models) : NULL;
        if (owners)
            ((PyArrayObject_fields *)view)->data = PyArray_DATA(copy);
        PyArray_SetBaseObject(view, owners ? owners : Py_NewRef(call->models));
        Py_XDECREF(copy);
    }
    PyErr_Restore(type, value, traceback);
}

ha_status ha_callback_end(ha_callback *call)
{
    if (!call->failed && any_kept(call)) {
        PyGC_Collect(); /* a cycle may hold them */
        if (any_kept(call)) {
            PyErr_Format(PyExc_RuntimeError, "mixer %s kept an array of the core after its call: keep a copy",
                         call->kind->name);
            call->failed = 1;
        }
    }
    if (call->failed && call->views)
        detach(call);
    ha_status status = call->failed ? HA_INTERRUPTED : HA_OK;
    Py_XDECREF(call->views);
    Py_XDECREF(call->models);
    PyGILState_Release(call->gil);
    return status;
}

PyObject *ha_callback_view(ha_callback *call, const float *data, int ndim, const npy_intp *shape)
{
    PyObject *array = call->failed ? NULL
                                   : PyArray_New(&PyArray_Type, ndim, (npy_intp *)shape, NPY_FLOAT32, NULL,
                                                 (void *)data, 0, NPY_ARRAY_CARRAY_RO, NULL);
    if (array && PyList_Append(call->views, array) < 0)
        Py_CLEAR(array);
    call->failed |= !array;
    return array;
}

PyObject *ha_callback_params(ha_callback *call, const ha_mixer *mixer, const float *weights)
{
    PyObject *facts = ha_external_declared(call->kind, mixer->config), *dict = PyDict_New(), *name, *shape;
    Py_ssize_t at = 0;
    call->failed |= !facts || !dict;
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        PyObject *array = ha_callback_view(call, weights + mixer->at[i], ha_shape_array(shape, size), size);
        call->failed |= !array || PyDict_SetItem(dict, name, array) < 0;
        Py_XDECREF(array);
    }
    return dict;
}

void ha_callback_add(ha_callback *call, const char *what, PyObject *object, int ndim, const npy_intp *shape,
                     float factor, float *to)
{
    PyArrayObject *array =
        call->failed ? NULL
                     : (PyArrayObject *)PyArray_FROM_OTF(object, NPY_FLOAT32, NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST);
    if (array && (PyArray_NDIM(array) != ndim || !PyArray_CompareLists(PyArray_DIMS(array), shape, ndim))) {
        PyObject *got = PyObject_GetAttrString((PyObject *)array, "shape"),
                 *want = PyArray_IntTupleFromIntp(ndim, shape);
        if (got && want)
            PyErr_Format(PyExc_ValueError, "mixer %s: %s has shape %R, expected %R", call->kind->name, what, got, want);
        Py_XDECREF(got);
        Py_XDECREF(want);
        Py_CLEAR(array);
    }
    call->failed |= !array;
    const float *from = array ? PyArray_DATA(array) : NULL;
    for (npy_intp i = 0, n = array ? PyArray_SIZE(array) : 0; i < n; i++)
        to[i] += factor * from[i];
    Py_XDECREF(array);
}

void ha_callback_clear_params(ha_callback *call, const ha_mixer *mixer, float *floats)
{
    PyObject *facts = ha_external_declared(call->kind, mixer->config), *name, *shape;
    Py_ssize_t at = 0;
    call->failed |= !facts;
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++)
        memset(floats + mixer->at[i], 0, ha_shape_floats(shape) * sizeof *floats);
}

void ha_callback_add_params(ha_callback *call, const ha_mixer *mixer, const char *missing, PyObject *dict,
                            float *floats)
{
    PyObject *facts = ha_external_declared(call->kind, mixer->config), *name, *shape;
    Py_ssize_t at = 0;
    call->failed |= !facts;
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        const int ndim = ha_shape_array(shape, size);
        PyObject *array = PyDict_GetItemWithError(dict, name);
        if (!array && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "mixer %s: %s %U", call->kind->name, missing, name);
        call->failed |= !array;
        ha_callback_add(call, PyUnicode_AsUTF8(name), array, ndim, size, 1.0f, floats + mixer->at[i]);
    }
}

void ha_callback_pair(ha_callback *call, const char *what, PyObject *function, PyObject *args, PyObject *pair[2])
{
    pair[0] = pair[1] = NULL;
    PyObject *result = call->failed || !args ? NULL : PyObject_CallObject(function, args);
    Py_XDECREF(args);
    if (result && (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 2)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: %s gave a %s, expected a pair", call->kind->name, what,
                     Py_TYPE(result)->tp_name);
        Py_CLEAR(result);
    }
    call->failed |= !result;
    for (int i = 0; result && i < 2; i++)
        pair[i] = Py_NewRef(PyTuple_GET_ITEM(result, i));
    Py_XDECREF(result);
}
