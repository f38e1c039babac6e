/* Matrices in storage types, as rows of bytes. */
#ifndef HA_PYTHON_STORED_H
#define HA_PYTHON_STORED_H

#include "core/dtype.h"
#include "python/api.h"

/* Functions of the module: pack and unpack. */
PyObject *ha_pack_matrix(PyObject *module, PyObject *args, PyObject *kwargs);
/* unpack(data, dtype): the way back, float32. */
PyObject *ha_unpack_matrix(PyObject *module, PyObject *args, PyObject *kwargs);

/* Numbers in a row of data [rows, bytes] of that type; -1 with a ValueError where a row does not
 * hold whole blocks. */
npy_intp ha_stored_columns(PyArrayObject *data, ha_dtype dtype);

#endif
