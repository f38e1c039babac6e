/* Distiller.rehearse and reserve: what a run would need of the arena, and room for it. */
#ifndef HA_PYTHON_DISTILLER_REHEARSAL_H
#define HA_PYTHON_DISTILLER_REHEARSAL_H

#include "python/distiller_object.h"

/* Distiller.rehearse(tokens, windows, ..): (peak, kept), see ha_trainer_rehearse. */
PyObject *ha_distiller_rehearse(distiller_object *self, PyObject *args, PyObject *kwargs);
/* Distiller.reserve(bytes): None. */
PyObject *ha_distiller_reserve(distiller_object *self, PyObject *bytes);

#endif
