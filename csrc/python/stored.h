/* Storage types, as the files that take one from Python see them. */
#ifndef HA_PYTHON_STORED_H
#define HA_PYTHON_STORED_H

#include "python/objects.h"
#include "python/tensor.h"

/* One of the first `count` storage types by name; -1 with a ValueError that lists them. */
int ha_dtype_parse(const char *name, int count, ha_dtype *dtype);

/* stored.c: functions pack and unpack of the module */
PyObject *ha_pack_matrix(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *ha_unpack_matrix(PyObject *module, PyObject *args, PyObject *kwargs);

/* stored.c: Model.store, Model.stored and Model.matrices, and parameter i as a Tensor: a view, but for block types a read-only copy */
PyObject *ha_model_store_method(model_object *self, PyObject *args, PyObject *kwargs);
PyObject *ha_model_stored_method(model_object *self, PyObject *unused);
PyObject *ha_model_matrices(model_object *self, PyObject *unused);
PyObject *ha_model_parameter(model_object *self, module_state *state, int i);

#endif
