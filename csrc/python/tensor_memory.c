/* Tensors over memory of their own or of another object, and their conversion. */
#include "python/tensor_memory.h"

#include "kernels/kernels.h"

ha_tensor *ha_tensor_new(PyTypeObject *type, ha_dtype dtype, int ndim, const Py_ssize_t *shape, void *data,
                         PyObject *owner, int readonly)
{
    Py_ssize_t item = (Py_ssize_t)ha_dtype_size(dtype), bytes = item;
    if (ndim > HA_TENSOR_DIMS) {
        PyErr_Format(PyExc_ValueError, "shape has %d dimensions, allowed are 0 to %d", ndim, HA_TENSOR_DIMS);
        return NULL;
    }
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0) {
            PyErr_Format(PyExc_ValueError, "shape[%d] is %zd, allowed is 0 or more", i, shape[i]);
            return NULL;
        }
        if (shape[i] && __builtin_mul_overflow(bytes, shape[i], &bytes)) {
            PyErr_SetString(PyExc_MemoryError, "shape is larger than the address space");
            return NULL;
        }
    }
    ha_tensor *self = (ha_tensor *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->dtype = dtype;
    self->ndim = ndim;
    self->readonly = readonly;
    self->count = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        self->shape[i] = shape[i];
        self->strides[i] = self->count * item;
        self->count *= shape[i];
    }
    self->owner = Py_XNewRef(owner);
    self->data = data ? data : PyMem_RawCalloc(self->count ? (size_t)self->count : 1, (size_t)item);
    if (!self->data) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    return self;
}

PyObject *ha_tensor_view(module_state *state, PyObject *owner, ha_dtype dtype, void *data, int ndim, const int *shape)
{
    Py_ssize_t wide[HA_TENSOR_DIMS] = {0};
    for (int i = 0; i < ndim && i < HA_TENSOR_DIMS; i++)
        wide[i] = shape[i];
    return (PyObject *)ha_tensor_new(state->tensor, dtype, ndim, wide, data, owner, 0);
}

ha_tensor *ha_tensor_to(const ha_tensor *from, ha_dtype dtype)
{
    enum { BLOCK = 1024 };
    ha_tensor *to = ha_tensor_new(Py_TYPE(from), dtype, from->ndim, from->shape, NULL, NULL, 0);
    if (!to)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    float block[BLOCK];
    const char *source = from->data;
    char *target = to->data;
    for (Py_ssize_t at = 0; at < from->count; at += BLOCK) {
        size_t count = from->count - at < BLOCK ? (size_t)(from->count - at) : BLOCK;
        ha_kernels_get()->decode[from->dtype](count, source + ha_dtype_bytes(from->dtype, (size_t)at), block);
        ha_from_f32(dtype, block, target + ha_dtype_bytes(dtype, (size_t)at), count);
    }
    PyEval_RestoreThread(thread);
    return to;
}
