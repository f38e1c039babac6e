/* The object behind Cache. */
#ifndef HA_PYTHON_CACHE_OBJECT_H
#define HA_PYTHON_CACHE_OBJECT_H

#include "python/model_object.h"

typedef struct {
    PyObject_HEAD ha_cache *cache;
    model_object *owner;
} cache_object;

#endif
