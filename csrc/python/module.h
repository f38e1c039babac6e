/* What the binding's files share: module state, the map from ha_status to exceptions, and argument arrays. */
#ifndef HA_PYTHON_MODULE_H
#define HA_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL hybridattn_numpy
#ifndef HA_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "core/arena.h"
#include "core/batch.h"
#include "core/status.h"

typedef struct {
    PyTypeObject *tensor, *model, *cache, *scorer, *distiller;
} module_state;

extern struct PyModuleDef ha_module;

/* The state of the module that `type` (or its base) belongs to; NULL with an exception. */
module_state *ha_state_of(PyTypeObject *type);

/* Sets the Python exception that belongs to a failed status and returns NULL. HA_INTERRUPTED keeps the pending one. */
PyObject *ha_raise(ha_status status);

/* A new reference to `object` as a C-contiguous array of `type` with `ndim` dimensions (-1: any); shape entries that are
 * not negative must match. Conversions that lose nothing are made (safe = 1) or refused. The error names `name`. */
PyArrayObject *ha_array_arg(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape);
/* The same for an output: must already be writable, contiguous and of that type. */
PyArrayObject *ha_array_out(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape);

/* A new tuple of the items of a sequence (which other code may change meanwhile); the error says "`name` must be `what`". */
PyObject *ha_tuple_arg(PyObject *object, const char *name, const char *what);

/* Poll for ha_interrupt: takes the GIL and runs pending signal handlers; non-zero when one raised. */
int ha_poll_signals(void *arg);

/* One per file: creates the heap type and adds it to the module. */
int ha_add_tensor(PyObject *module, module_state *state);
int ha_add_model(PyObject *module, module_state *state);
int ha_add_cache(PyObject *module, module_state *state);
int ha_add_scorer(PyObject *module, module_state *state);
int ha_add_distiller(PyObject *module, module_state *state);
/* The sub-modules `ops` and `reference`. */
int ha_add_ops(PyObject *module);
int ha_add_reference(PyObject *module);

/* tensor.c: a float32 view of memory that `owner` keeps alive. shape [ndim]. */
PyObject *ha_tensor_view(module_state *state, PyObject *owner, float *data, int ndim, const int *shape);

#endif
