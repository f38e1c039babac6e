/* Memory, results, the arena and the GIL of a call. */
#include "python/call_run.h"

#include <stdatomic.h>
#include <string.h>

#include "python/raise.h"

void ha_call_result(ha_call *call, int i, const char *shape, int doubles)
{
    npy_intp length[NPY_MAXDIMS];
    if (call->failed)
        return;
    const int ndim = ha_call_axes(call, shape, length);
    call->result[i] = PyArray_ZEROS(ndim, length, doubles ? NPY_FLOAT64 : call->type, 0);
    if (call->result[i])
        call->out[i] = PyArray_DATA((PyArrayObject *)call->result[i]);
    else
        call->failed = 1;
}

void ha_call_result_none(ha_call *call, int i)
{
    call->result[i] = Py_NewRef(Py_None);
}

/* One arena is kept from call to call, so that a loop of calls takes no page faults after the
 * first. */
static _Atomic(ha_arena *) spare;
enum { KEEP = 1 << 30 }; /* bytes of touched pages that may stay with it */

static ha_arena *take_arena(ha_status *status)
{
    ha_arena *arena = atomic_exchange(&spare, NULL);
    if (arena)
        return arena;
    arena = PyMem_RawCalloc(1, sizeof *arena);
    if (arena)
        ha_arena_open(arena);
    else
        *status = ha_fail(HA_NO_MEMORY, "out of memory");
    return arena;
}

/* Keeps an arena for the next call, in the place of one that is kept. */
static void give_arena(ha_arena *arena)
{
    ha_arena_release(arena, 0); /* an op that failed may have left something on it */
    if (arena->peak > KEEP)
        ha_arena_trim(arena);
    ha_arena *old = atomic_exchange(&spare, arena);
    if (old) {
        ha_arena_close(old);
        PyMem_RawFree(old);
    }
}

int ha_call_run(ha_call *call)
{
    ha_status status = HA_OK;
    if (!call->failed && !(call->arena = take_arena(&status))) {
        ha_raise(status);
        call->failed = 1;
    }
    if (!call->failed)
        call->thread = PyEval_SaveThread();
    return !call->failed;
}

/* The results that are there: None, one of them, or a new tuple. */
static PyObject *results_of(const ha_call *call)
{
    PyObject *there[HA_CALL_RESULTS];
    int count = 0;
    for (int i = 0; i < HA_CALL_RESULTS; i++)
        if (call->result[i])
            there[count++] = call->result[i];
    if (count < 2)
        return Py_NewRef(count ? there[0] : Py_None);
    PyObject *all = PyTuple_New(count);
    for (int i = 0; all && i < count; i++)
        PyTuple_SET_ITEM(all, i, Py_NewRef(there[i]));
    return all;
}

PyObject *ha_call_end(ha_call *call, ha_status status)
{
    if (call->thread)
        PyEval_RestoreThread(call->thread);
    if (call->arena)
        give_arena(call->arena);
    if (!call->failed && status != HA_OK) {
        ha_raise(status);
        call->failed = 1;
    }
    PyObject *all = call->failed ? NULL : results_of(call);
    for (int i = 0; i < HA_CALL_RESULTS; i++)
        Py_XDECREF(call->result[i]);
    for (int i = 0; i < call->held_count; i++)
        Py_DECREF(call->held[i]);
    return all;
}

void *ha_call_states(const ha_call *call, void *result, const void *initial, const char *shape)
{
    const size_t count = ha_call_count(call, shape), item = call->type == NPY_FLOAT32 ? sizeof(float) : sizeof(double);
    void *states = result ? result : ha_arena_push(call->arena, count, item);
    if (states && initial)
        memcpy(states, initial, count * item);
    else if (states && !result)
        memset(states, 0, count * item);
    return states;
}

ha_status ha_by_sequence(int n_seq, size_t size, float *states, float ***pointers, ha_arena *arena)
{
    *pointers = NULL;
    if (!states)
        return HA_OK;
    HA_PUSH(*pointers, arena, (size_t)n_seq);
    for (int s = 0; s < n_seq; s++)
        (*pointers)[s] = states + (size_t)s * size;
    return HA_OK;
}
