/* The parts of a step, for callers that share one out among processes. */
#ifndef HA_PYTHON_DISTILLER_PARTS_H
#define HA_PYTHON_DISTILLER_PARTS_H

#include "python/distiller_object.h"

/* Distiller.arena(name) */
PyObject *ha_distiller_arena(distiller_object *self, PyObject *name);
/* Distiller.blocks() */
PyObject *ha_distiller_blocks(distiller_object *self, PyObject *unused);
/* Distiller.stages() */
PyObject *ha_distiller_stages(distiller_object *self, PyObject *unused);
/* Distiller.gradients(tokens, windows, first, stop, grads, ...) */
PyObject *ha_distiller_gradients(distiller_object *self, PyObject *args, PyObject *kwargs);
/* Distiller.fold(sum, more) */
PyObject *ha_distiller_fold(distiller_object *self, PyObject *args);
/* Distiller.squares(grads, first, stop) */
PyObject *ha_distiller_squares(distiller_object *self, PyObject *args);
/* Distiller.update(grads, first, stop, norm, lr) */
PyObject *ha_distiller_update(distiller_object *self, PyObject *args);
/* Distiller.align_part(tokens, windows, lr, first, stop, incoming, outgoing, segments=None) */
PyObject *ha_distiller_align_part(distiller_object *self, PyObject *args, PyObject *kwargs);

#endif
