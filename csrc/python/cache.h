/* class Cache. */
#ifndef HA_PYTHON_CACHE_H
#define HA_PYTHON_CACHE_H

#include "python/state.h"

/* Creates the type and adds it to the module; -1 with an exception. */
int ha_add_cache(PyObject *module, module_state *state);

#endif
