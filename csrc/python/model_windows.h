/* Model on windows of a token stream. */
#ifndef HA_PYTHON_MODEL_WINDOWS_H
#define HA_PYTHON_MODEL_WINDOWS_H

#include "python/model_object.h"

/* Methods of Model. */
PyObject *ha_model_forward_windows(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.moments(tokens, windows, names, segments=None) */
PyObject *ha_model_moments(model_object *self, PyObject *args, PyObject *kwargs);
/* Model.task_logits(tokens, windows, segments=None) */
PyObject *ha_model_task_logits(model_object *self, PyObject *args, PyObject *kwargs);

#endif
