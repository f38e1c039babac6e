/* Methods of Cache that save and restore it. */
#ifndef HA_PYTHON_CACHE_STATE_H
#define HA_PYTHON_CACHE_STATE_H

#include "python/cache_object.h"

/* Cache.state(): a dict of arrays, copies. */
PyObject *ha_cache_state_method(cache_object *self, PyObject *unused);
/* Cache.load_state(saved): back to what state() gave. */
PyObject *ha_cache_load_state(cache_object *self, PyObject *saved);

#endif
