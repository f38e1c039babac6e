/* Token counts of the sequences in a Cache, in and out. */
#ifndef HA_PYTHON_CACHE_COUNTS_H
#define HA_PYTHON_CACHE_COUNTS_H

#include "python/cache_object.h"

/* int64 [batch]: tokens that each sequence has seen. */
PyObject *ha_cache_lengths(cache_object *self);
/* object, int64 [batch], as counts that the cache can hold (beside: on top of its tokens), freed by
 * the caller with PyMem_Free; NULL with an exception. */
int *ha_cache_counts(cache_object *self, PyObject *object, const char *name, int beside);

#endif
