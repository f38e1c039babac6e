/* Parameters in other types than float32, in Python terms:
 *
 *     Model.store(name, dtype, data)    a parameter becomes those bytes, maybe of a mapped file
 *     Model.stored()                    name -> (dtype, data) of every such parameter
 *     Model.matrices()                  the names that store takes
 */
#include "python/model_store.h"

#include "kernels/kernels.h"
#include "python/arrays.h"
#include "python/dtype_arg.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/stored.h"
#include "python/tensor_memory.h"

/* The model's parameter becomes the bytes of entry (dtype, bytes), and stored[name] keeps them.
 * Under the lock, so that the dict holds what the model points to; what is replaced lives until it
 * no longer does. Returns 0, or -1 with an exception and nothing changed. */
static int keep(model_object *self, PyObject *name, const ha_param *param, ha_dtype dtype, PyObject *entry)
{
    PyArrayObject *bytes = (PyArrayObject *)PyTuple_GET_ITEM(entry, 1);
    if (ha_lock(self, NULL) != HA_OK)
        return -1;
    int result = -1;
    PyObject *before = Py_XNewRef(PyDict_GetItemWithError(self->stored, name));
    if (PyDict_SetItem(self->stored, name, entry) == 0) {
        const int index = (int)(param - self->model->params.list);
        const ha_status status = ha_model_store(self->model, index, dtype, PyArray_DATA(bytes));
        if (status == HA_OK) {
            result = 0;
        } else {
            if (before ? PyDict_SetItem(self->stored, name, before) : PyDict_DelItem(self->stored, name))
                PyErr_Clear();
            ha_raise(status);
        }
    }
    ha_unlock(self, NULL);
    Py_XDECREF(before);
    return result;
}

PyObject *ha_model_store_method(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "dtype", "data", NULL};
    PyObject *name, *data, *entry = NULL, *result = NULL;
    const char *dtype_name;
    ha_dtype dtype;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UsO:store", names, &name, &dtype_name, &data) ||
        !ha_model_ready(self) || ha_dtype_parse(dtype_name, HA_DTYPE_COUNT, &dtype) < 0)
        return NULL;
    const char *text = PyUnicode_AsUTF8(name);
    const ha_param *param = text ? ha_params_find(&self->model->params, text) : NULL;
    if (!param)
        return text ? PyErr_Format(PyExc_ValueError, "the model has no parameter '%s'", text) : NULL;
    if (dtype == HA_F32)
        return PyErr_Format(PyExc_ValueError, "dtype is 'float32', which parameters() takes: allowed are other types");
    PyArrayObject *bytes = ha_array_arg(data, "data", NPY_UINT8, 2, NULL);
    if (!bytes)
        return NULL;
    npy_intp columns = ha_stored_columns(bytes, dtype);
    if (columns >= 0 && (param->ndim != 2 || PyArray_DIM(bytes, 0) != param->shape[0] || columns != param->shape[1]))
        PyErr_Format(PyExc_ValueError, "data for %s is [%zd, %zd], expected [%d, %d]", param->name,
                     (Py_ssize_t)PyArray_DIM(bytes, 0), (Py_ssize_t)columns, param->shape[0],
                     param->ndim == 2 ? param->shape[1] : 1);
    else if (columns >= 0)
        entry = Py_BuildValue("(sO)", ha_dtype_name(dtype), (PyObject *)bytes);
    if (entry)
        result = keep(self, name, param, dtype, entry) < 0 ? NULL : Py_NewRef(Py_None);
    Py_XDECREF(entry);
    Py_DECREF(bytes);
    return result;
}

PyObject *ha_model_stored_method(model_object *self, PyObject *unused)
{
    (void)unused;
    return ha_model_ready(self) ? PyDict_Copy(self->stored) : NULL;
}

PyObject *ha_model_matrices(model_object *self, PyObject *unused)
{
    (void)unused;
    if (!ha_model_ready(self))
        return NULL;
    PyObject *names = PyList_New(0);
    for (int i = 0; names && i < self->model->params.count; i++) {
        const ha_param *param = &self->model->params.list[i];
        PyObject *name = param->matrix ? PyUnicode_FromString(param->name) : NULL;
        if (param->matrix && (!name || PyList_Append(names, name) < 0))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

PyObject *ha_model_parameter(model_object *self, module_state *state, int i)
{
    const ha_param *param = &self->model->params.list[i];
    const ha_dtype dtype = ha_params_dtype(&self->model->params, i);
    if (dtype == HA_F32)
        return ha_tensor_view(state, (PyObject *)self, HA_F32, self->model->weights + param->offset, param->ndim,
                              param->shape);
    PyObject *entry = PyDict_GetItemString(self->stored, param->name); /* (dtype, bytes) */
    PyObject *bytes = entry ? PyTuple_GetItem(entry, 1) : NULL;
    if (!bytes)
        return NULL;
    const Py_ssize_t shape[2] = {param->shape[0], param->shape[1]};
    if (dtype < (ha_dtype)HA_PLAIN_DTYPES)
        return (PyObject *)ha_tensor_new(state->tensor, dtype, 2, shape, PyArray_DATA((PyArrayObject *)bytes), bytes,
                                         1);
    ha_tensor *copy = ha_tensor_new(state->tensor, HA_F32, 2, shape, NULL, NULL, 1);
    if (copy)
        ha_kernels_get()->decode[dtype](param->count, PyArray_DATA((PyArrayObject *)bytes), copy->data);
    return (PyObject *)copy;
}
