/* The loop of Distiller. */
#ifndef HA_PYTHON_DISTILLER_RUN_H
#define HA_PYTHON_DISTILLER_RUN_H

#include "python/distiller_object.h"

/* Method of Distiller. */
PyObject *ha_distiller_run(distiller_object *self, PyObject *args, PyObject *kwargs);

#endif
