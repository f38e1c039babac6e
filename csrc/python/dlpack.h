/* Tensor and DLPack (https://dmlc.github.io/dlpack/latest/): __dlpack__, __dlpack_device__ and
 * from_dlpack. */
#ifndef HA_PYTHON_DLPACK_H
#define HA_PYTHON_DLPACK_H

#include "python/api.h"

/* Tensor.__dlpack__(...): a capsule that keeps the tensor alive. */
PyObject *ha_tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);
/* Tensor.__dlpack_device__(): (1, 0), the CPU. */
PyObject *ha_tensor_dlpack_device(PyObject *self, PyObject *unused);
/* Tensor.from_dlpack(object): a view of its memory. */
PyObject *ha_tensor_from_dlpack(PyTypeObject *type, PyObject *object);

#endif
