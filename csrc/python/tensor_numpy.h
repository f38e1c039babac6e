/* Tensor and NumPy: the methods numpy, __array__ and from_numpy. */
#ifndef HA_PYTHON_TENSOR_NUMPY_H
#define HA_PYTHON_TENSOR_NUMPY_H

#include "python/api.h"

PyObject *ha_tensor_numpy(PyObject *self, PyObject *unused);
PyObject *ha_tensor_as_array(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ha_tensor_from_numpy(PyObject *type, PyObject *object);

#endif
