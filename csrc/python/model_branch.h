/* Model.set_branch(branch, layer=None) */
#ifndef HA_PYTHON_MODEL_BRANCH_H
#define HA_PYTHON_MODEL_BRANCH_H

#include "python/model_object.h"

/* A method of Model. */
PyObject *ha_model_set_branch(model_object *self, PyObject *args, PyObject *kwargs);

#endif
