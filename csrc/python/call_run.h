/* The middle and the end of a call: memory and results, the arena, the GIL. */
#ifndef HA_PYTHON_CALL_RUN_H
#define HA_PYTHON_CALL_RUN_H

#include "core/status.h"
#include "python/call.h"

/* Result i is a new zeroed array of that shape, of the call's type or, `doubles`, of float64. */
void ha_call_result(ha_call *call, int i, const char *shape, int doubles);
/* Result i is None. */
void ha_call_result_none(ha_call *call, int i);

/* Opens the arena and releases the GIL. False after a failure. */
int ha_call_run(ha_call *call);
/* Takes the GIL and returns the results: None, one array or a tuple; NULL with an exception after a
 * failure. */
PyObject *ha_call_end(ha_call *call, ha_status status);

/* Between the two: states [S,...] that a pass updates, which start from `initial` or from zero.
 * They are `result`, or lie on the arena where that is NULL. NULL when there is no memory. */
void *ha_call_states(const ha_call *call, void *result, const void *initial, const char *shape);
/* Pointers [n_seq] to the states of the sequences, `size` floats each and one after the other; NULL
 * when there are none. */
ha_status ha_by_sequence(int n_seq, size_t size, float *states, float ***pointers, ha_arena *arena);

#endif
