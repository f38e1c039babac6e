/* Parameters of a Model in other types than float32. */
#ifndef HA_PYTHON_MODEL_STORE_H
#define HA_PYTHON_MODEL_STORE_H

#include "python/model_object.h"

/* Methods of Model: store, stored and matrices. */
PyObject *ha_model_store_method(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.stored() */
PyObject *ha_model_stored_method(model_object *self, PyObject *unused);
/* Model.matrices() */
PyObject *ha_model_matrices(model_object *self, PyObject *unused);

/* Parameter i as a Tensor: a view, but for block types a read-only copy. */
PyObject *ha_model_parameter(model_object *self, module_state *state, int i);

#endif
