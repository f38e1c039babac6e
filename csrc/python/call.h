/* One call of an operation on arrays: arguments in, arena and threads, results out. Shared by ops_*.c and reference.c.
 *
 * Shapes are written as in the docstrings, one letter an axis: "T H d". The first array that has a letter sets its
 * length, later ones must agree; "2d" is twice d. Errors stick: after the first one every step does nothing, and
 * ha_call_end returns NULL. */
#ifndef HA_PYTHON_CALL_H
#define HA_PYTHON_CALL_H

#include "core/activation.h"
#include "core/arena.h"
#include "core/batch.h"
#include "core/status.h"
#include "python/api.h"

enum { HA_CALL_ARRAYS = 24, HA_CALL_RESULTS = 9 };

typedef struct {
    int type; /* NPY_FLOAT32 or NPY_FLOAT64, of every floating-point array */
    int failed, n_held, n_results;
    int size[64]; /* by letter from 'A'; 0: not known yet */
    PyObject *held[HA_CALL_ARRAYS], *result[HA_CALL_RESULTS];
    ha_batch batch;
    ha_arena *arena;
    PyThreadState *thread;
} ha_call;

static inline int ha_size(const ha_call *call, char letter)
{
    return call->size[letter - 'A'];
}

ha_call ha_call_begin(int type);
/* Binds 'P' to the size of one head's state, which must be an int. */
void ha_call_state_size(ha_call *call, int64_t size);
/* The data of an array argument of that shape; None gives NULL where `optional`. */
const void *ha_call_in(ha_call *call, PyObject *object, const char *name, const char *shape, int optional);
/* The same for an array that may have either shape, told apart by the number of axes; *which is 0 or 1, -1 for None. */
const void *ha_call_in_either(ha_call *call, PyObject *object, const char *name, const char *const shape[2],
                              int *which);
/* Whole numbers min .. max - 1 as int32. */
const int32_t *ha_call_in_int(ha_call *call, PyObject *object, const char *name, const char *shape, int64_t min,
                              int64_t max);
/* The data of an array that the call changes: writable, contiguous, of the call's type. */
void *ha_call_in_place(ha_call *call, PyObject *object, const char *name, const char *shape);
/* The data of a new zeroed array, the next item of the result; an array of float64 whatever the type; a None. */
void *ha_call_out(ha_call *call, const char *shape);
double *ha_call_out_double(ha_call *call, const char *shape);
void ha_call_out_none(ha_call *call);
/* The last result so far was scratch: it is not returned. */
void ha_call_drop(ha_call *call);
/* Sets batch from `lengths`, a sequence of ints >= 1 with sum `rows`; None: one sequence. Binds 'S' to their number. */
void ha_call_batch(ha_call *call, PyObject *lengths, const char *name, int rows, ha_batch *batch);
/* Pointers to the states of the sequences, which lie one after the other; NULL when there are none. */
ha_status ha_by_sequence(int n_seq, size_t size, float *states, float ***pointers, ha_arena *arena);
/* A feature map by name, 'elu', 'relu', 'hedgehog' or 'favor', with its x [T H d] and weight [H d d] (None for the first
 * two), as its number 0 .. 3; 'F' is its width. */
int ha_call_feature(ha_call *call, const char *name, PyObject *x_arg, PyObject *w_arg, const void **x, const void **w);
/* An activation by name: 'gelu', 'gelu_tanh', 'relu' or 'silu'. */
ha_act ha_call_act(ha_call *call, const char *name);
/* The taps 'w' of a convolution are in range; 'P' is their number less one. */
void ha_call_taps(ha_call *call);
/* Fails the call with a ValueError unless `ok`. */
void ha_call_require(ha_call *call, int ok, const char *format, ...);
/* Opens the arena and releases the GIL. False after a failure. */
int ha_call_run(ha_call *call);
/* Takes the GIL and returns the results: None, one array or a tuple; NULL with an exception after a failure. */
PyObject *ha_call_end(ha_call *call, ha_status status);

/* A sub-module hybridattn._core.<name> with the functions of `tables` (ended by NULL), importable by its full name. */
int ha_add_submodule(PyObject *module, const char *name, const char *doc, PyMethodDef *const *tables);

#define HA_FUNCTION(name, doc)                                                        \
    {                                                                                 \
#name, (PyCFunction)(void (*)(void))(name), METH_VARARGS | METH_KEYWORDS, doc \
    }

#endif
