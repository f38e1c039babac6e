/* The parts of a step, for callers that share one out among processes. */
#ifndef HA_PYTHON_DISTILLER_PARTS_H
#define HA_PYTHON_DISTILLER_PARTS_H

#include "python/distiller_object.h"

/* Methods of Distiller. */
PyObject *ha_distiller_arena(distiller_object *self, PyObject *name);
PyObject *ha_distiller_blocks(distiller_object *self, PyObject *unused);
PyObject *ha_distiller_gradients(distiller_object *self, PyObject *args, PyObject *kwargs);
PyObject *ha_distiller_fold(distiller_object *self, PyObject *args);
PyObject *ha_distiller_squares(distiller_object *self, PyObject *args);
PyObject *ha_distiller_update(distiller_object *self, PyObject *args);
PyObject *ha_distiller_align_part(distiller_object *self, PyObject *args, PyObject *kwargs);

#endif
