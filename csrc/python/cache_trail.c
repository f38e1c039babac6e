/* Cache.trail and Cache.rewind: states that are kept so that tokens can be taken back. */
#include "python/cache_trail.h"

#include "python/cache_counts.h"
#include "python/model_lock.h"
#include "python/raise.h"

enum { MOST_TOKENS = 1024 };

/* Cache.trail(tokens) */
PyObject *ha_cache_trail_method(cache_object *self, PyObject *tokens)
{
    const long count = PyLong_AsLong(tokens);
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (count < 0 || count > MOST_TOKENS)
        return PyErr_Format(PyExc_ValueError, "tokens is %ld, allowed are 0 to %d", count, MOST_TOKENS);
    ha_core_call core = ha_core_begin(self->owner, NULL);
    if (core.status == HA_OK)
        core.status = ha_cache_trail(self->cache, (int)count);
    const ha_status status = ha_core_end(&core);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

/* Cache.rewind(tokens), int64 [batch] */
PyObject *ha_cache_rewind_method(cache_object *self, PyObject *tokens)
{
    int *back = ha_cache_counts(self, tokens, "tokens", 0);
    if (!back)
        return NULL;
    ha_core_call core = ha_core_begin(self->owner, NULL);
    if (core.status == HA_OK)
        core.status = ha_cache_rewind(self->cache, back);
    const ha_status status = ha_core_end(&core);
    PyMem_Free(back);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}
