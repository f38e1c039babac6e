/* Tensor and DLPack (https://dmlc.github.io/dlpack/latest/): __dlpack__, __dlpack_device__ and
 * from_dlpack. */
#ifndef HA_PYTHON_DLPACK_H
#define HA_PYTHON_DLPACK_H

#include "python/api.h"

PyObject *ha_tensor_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ha_tensor_dlpack_device(PyObject *self, PyObject *unused);
PyObject *ha_tensor_from_dlpack(PyTypeObject *type, PyObject *object);

#endif
