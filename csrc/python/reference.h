/* What the files of hybridattn._core.reference share. */
#ifndef HA_PYTHON_REFERENCE_H
#define HA_PYTHON_REFERENCE_H

#include "python/call.h"
#include "ref/ref.h"

extern PyMethodDef ha_reference_mixers[]; /* reference_mixers.c: whole mixers between their projections */
extern PyMethodDef ha_reference_task[];   /* reference_task.c: the twins of ops_task.c */

/* The sub-module `reference`. */
int ha_add_reference(PyObject *module);

static inline void ha_require_groups(ha_call *call)
{
    ha_call_require(call, call->failed || ha_size(call, 'H') % ha_size(call, 'K') == 0,
                    "%d heads share %d key heads, allowed are divisors", ha_size(call, 'H'), ha_size(call, 'K'));
}

static inline void ha_require_window(ha_call *call, int window, int sinks, int narrowest)
{
    ha_call_require(call, window >= narrowest && window <= 1 << 30, "window is %d, allowed are %d to 2^30", window,
                    narrowest);
    ha_call_require(call, sinks >= 0 && sinks <= 1 << 30, "sinks is %d, allowed are 0 to 2^30", sinks);
}

#endif
