/* What a Model is made of. */
#ifndef HA_PYTHON_MODEL_FACTS_H
#define HA_PYTHON_MODEL_FACTS_H

#include "python/model_object.h"

/* Methods of Model. */
PyObject *ha_model_parameters(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.parameter_info() */
PyObject *ha_model_parameter_info(model_object *self, PyObject *unused);
/* Model.cost(context=1024.0) */
PyObject *ha_model_cost(model_object *self, PyObject *args, PyObject *kwargs);

#endif
