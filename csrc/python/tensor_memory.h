/* What a Tensor is: row-major memory on the CPU, with shape and dtype. */
#ifndef HA_PYTHON_TENSOR_MEMORY_H
#define HA_PYTHON_TENSOR_MEMORY_H

#include "core/dtype.h"
#include "python/state.h"

enum { HA_TENSOR_DIMS = 8 };
#define HA_TENSOR_DTYPES "float32, bfloat16, float16"

typedef struct {
    PyObject_HEAD PyObject *owner; /* keeps `data` alive; NULL: the tensor owns it */
    void *data;
    ha_dtype dtype;
    int ndim, readonly;
    Py_ssize_t count, shape[HA_TENSOR_DIMS], strides[HA_TENSOR_DIMS]; /* items; items; bytes */
} ha_tensor;

/* A new tensor of shape [ndim]. data NULL: memory of its own, zeroed. Otherwise a view, and `owner`
 * keeps data alive. */
ha_tensor *ha_tensor_new(PyTypeObject *type, ha_dtype dtype, int ndim, const Py_ssize_t *shape, void *data,
                         PyObject *owner, int readonly);
/* A view of memory that `owner` keeps alive; shape [ndim]. */
PyObject *ha_tensor_view(module_state *state, PyObject *owner, ha_dtype dtype, void *data, int ndim, const int *shape);
/* A copy with memory of its own, converted to `dtype`. */
ha_tensor *ha_tensor_to(const ha_tensor *tensor, ha_dtype dtype);

#endif
