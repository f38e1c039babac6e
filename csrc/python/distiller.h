/* class Distiller. */
#ifndef HA_PYTHON_DISTILLER_H
#define HA_PYTHON_DISTILLER_H

#include "python/state.h"

/* Creates the type and adds it to the module; -1 with an exception. */
int ha_add_distiller(PyObject *module, module_state *state);

#endif
