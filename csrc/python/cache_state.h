/* Methods of Cache that save and restore it. */
#ifndef HA_PYTHON_CACHE_STATE_H
#define HA_PYTHON_CACHE_STATE_H

#include "python/cache_object.h"

PyObject *ha_cache_state_method(cache_object *self, PyObject *unused);
PyObject *ha_cache_load_state(cache_object *self, PyObject *saved);

#endif
