/* Arguments of Python as arrays and tuples. */
#ifndef HA_PYTHON_ARRAYS_H
#define HA_PYTHON_ARRAYS_H

#include "python/api.h"

/* A new reference to `object` as a C-contiguous array of `type` with `ndim` dimensions (-1: any);
 * entries of `shape` that are not negative must match. Conversions that lose nothing are made,
 * others refused. The error names `name`. */
PyArrayObject *ha_array_arg(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape);
/* The same for an output: must already be writable, contiguous and of that type. */
PyArrayObject *ha_array_out(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape);

/* A new tuple of the items of a sequence, which other code may change meanwhile. The error says
 * "`name` must be `what`". */
PyObject *ha_tuple_arg(PyObject *object, const char *name, const char *what);

#endif
