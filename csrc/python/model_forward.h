/* Model on padded token arrays. */
#ifndef HA_PYTHON_MODEL_FORWARD_H
#define HA_PYTHON_MODEL_FORWARD_H

#include "python/model_object.h"

/* Methods of Model. */
PyObject *ha_model_logits_method(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.hidden(tokens, mask=None, cache=None, segments=None) */
PyObject *ha_model_hidden_method(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.nll(tokens, mask=None) */
PyObject *ha_model_nll_method(model_object *self, PyObject *args, PyObject *kwargs);

#endif
