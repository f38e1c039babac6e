/* Tensor and NumPy: the methods numpy, __array__ and from_numpy. */
#ifndef HA_PYTHON_TENSOR_NUMPY_H
#define HA_PYTHON_TENSOR_NUMPY_H

#include "python/api.h"

/* Tensor.numpy(): a view. */
PyObject *ha_tensor_numpy(PyObject *self, PyObject *unused);
/* Tensor.__array__(dtype=None, copy=None) */
PyObject *ha_tensor_as_array(PyObject *self, PyObject *args, PyObject *kwargs);
/* Tensor.from_numpy(array): a view. */
PyObject *ha_tensor_from_numpy(PyObject *type, PyObject *object);

#endif
