/* class Tensor, as the files that make or export one see it: row-major memory on the CPU, with shape and dtype. */
#ifndef HA_PYTHON_TENSOR_H
#define HA_PYTHON_TENSOR_H

#include "core/dtype.h"
#include "python/module.h"

enum { HA_TENSOR_DIMS = 8 };
#define HA_TENSOR_DTYPES "float32, bfloat16, float16"

typedef struct {
    PyObject_HEAD PyObject *owner; /* keeps `data` alive; NULL: the tensor owns it */
    void *data;
    ha_dtype dtype;
    int ndim, readonly;
    Py_ssize_t count, shape[HA_TENSOR_DIMS], strides[HA_TENSOR_DIMS]; /* items; items; bytes */
} ha_tensor;

/* A new tensor of shape [ndim]. data NULL: memory of its own, zeroed. Otherwise a view, and `owner` keeps data alive. */
ha_tensor *ha_tensor_new(PyTypeObject *type, ha_dtype dtype, int ndim, const Py_ssize_t *shape, void *data,
                         PyObject *owner, int readonly);
/* A copy with memory of its own, converted to `dtype`. */
ha_tensor *ha_tensor_to(const ha_tensor *tensor, ha_dtype dtype);

/* tensor_numpy.c: the methods numpy, __array__ and from_numpy. */
PyObject *ha_tensor_numpy(PyObject *self, PyObject *unused);
PyObject *ha_tensor_as_array(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ha_tensor_from_numpy(PyObject *type, PyObject *object);

/* dlpack.c: the methods __dlpack__, __dlpack_device__ and from_dlpack (https://dmlc.github.io/dlpack/latest/). */
PyObject *ha_tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ha_tensor_dlpack_device(PyObject *self, PyObject *unused);
PyObject *ha_tensor_from_dlpack(PyTypeObject *type, PyObject *object);

#endif
