/* Distiller.rehearse and reserve: what a run would need of the arena, and room for it. */
#ifndef HA_PYTHON_DISTILLER_REHEARSAL_H
#define HA_PYTHON_DISTILLER_REHEARSAL_H

#include "python/distiller_object.h"

/* The methods, with the arguments as Python passes them. */
PyObject *ha_distiller_rehearse(distiller_object *self, PyObject *args, PyObject *kwargs);
PyObject *ha_distiller_reserve(distiller_object *self, PyObject *bytes);

#endif
