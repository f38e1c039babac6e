/* Cache.trail and Cache.rewind. */
#ifndef HA_PYTHON_CACHE_TRAIL_H
#define HA_PYTHON_CACHE_TRAIL_H

#include "python/cache_object.h"

/* Cache.trail(tokens) */
PyObject *ha_cache_trail_method(cache_object *self, PyObject *tokens);
/* Cache.rewind(tokens) */
PyObject *ha_cache_rewind_method(cache_object *self, PyObject *tokens);

#endif
