/* Model.trace_layer(layer, tokens, windows, incoming=None, linear=False, segments=None) */
#ifndef HA_PYTHON_MODEL_TRACE_H
#define HA_PYTHON_MODEL_TRACE_H

#include "python/model_object.h"

/* A method of Model. */
PyObject *ha_model_trace_layer(model_object *self, PyObject *args, PyObject *kwargs);

#endif
