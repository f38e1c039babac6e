/* Python's and NumPy's C API, with the switches that every file of the binding sets alike. */
#ifndef HA_PYTHON_API_H
#define HA_PYTHON_API_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION /* runs with 1.25 and later, also when built with 2.x */
#define PY_ARRAY_UNIQUE_SYMBOL hybridattn_numpy
#ifndef HA_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#endif
