/* One call of an operation on arrays: what Python passes becomes sizes, pointers and numbers.
 *
 * Shapes are written as in the docstrings, one letter an axis: "T H d". The first array that has a
 * letter sets its length, later ones must agree; "2d" is twice d. Errors stick: after the first one
 * every step does nothing. */
#ifndef HA_PYTHON_CALL_H
#define HA_PYTHON_CALL_H

#include "core/arena.h"
#include "core/batch.h"
#include "python/api.h"

enum { HA_CALL_VALUES = 16, HA_CALL_RESULTS = 9, HA_CALL_ARRAYS = 24 };

/* A parameter as it was passed, or its default. */
typedef struct {
    const char *name;
    int required;      /* None is no value for it */
    PyObject *object;  /* borrowed; NULL where the default stands */
    int given;         /* an array or number that is not None, a flag that is true */
    void *data;        /* of an array */
    const char *shape; /* of an array: the one of its shapes that it has */
    double number, second;
    int64_t whole; /* also a flag, and the number of a choice */
} ha_value;

typedef struct {
    int type; /* NPY_FLOAT32 or NPY_FLOAT64, of every floating-point array */
    int failed;
    int size[64]; /* by letter from 'A'; 0: not known yet */
    ha_value value[HA_CALL_VALUES];
    void *out[HA_CALL_RESULTS];        /* data of the results; NULL where there is none */
    PyObject *result[HA_CALL_RESULTS]; /* NULL where it is left out */
    ha_batch batch;                    /* of the parameter `lengths` */
    ha_batch keys;                     /* of attention's key_lengths */
    int held_count;                    /* arrays that live as long as the call */
    PyObject *held[HA_CALL_ARRAYS];
    ha_arena *arena;
    PyThreadState *thread; /* while the GIL is released */
} ha_call;

/* The size of an axis letter; 0: not known yet. */
static inline int ha_size(const ha_call *call, char letter)
{
    return call->size[letter - 'A'];
}

/* The parameter of that name; an empty value where the operation has none. */
const ha_value *ha_argument(const ha_call *call, const char *name);
/* The data of an array, NULL for None and where the operation has no such parameter. */
void *ha_data(const ha_call *call, const char *name);

/* Fails the call with a ValueError unless `ok`. */
void ha_call_require(ha_call *call, int ok, const char *format, ...);
/* Fails the call unless lowest <= value <= 2^30: positions plus it stay ints. */
void ha_call_require_span(ha_call *call, const char *name, int64_t value, int lowest);
/* Fails the call unless 'H' heads of q share 'K' of k. */
void ha_call_require_groups(ha_call *call);
/* Sets 'P', the size of a state or of a result that only the operation knows; it must be an int. */
void ha_call_state_size(ha_call *call, int64_t size);

/* Items of an array of that shape, whose sizes are known. */
size_t ha_call_count(const ha_call *call, const char *shape);
/* The lengths of the axes of that shape; returns how many. */
int ha_call_axes(const ha_call *call, const char *shape, npy_intp *length);

/* Reads a floating-point array of one of two shapes, told apart by the number of axes; other NULL:
 * of the first. */
void ha_call_array(ha_call *call, ha_value *value, const char *shape, const char *other);
/* Reads an array that the call changes: writable, contiguous, of the call's type. */
void ha_call_in_place(ha_call *call, ha_value *value, const char *shape);
/* Reads whole numbers, low <= n < end, as int32. */
void ha_call_integers(ha_call *call, ha_value *value, const char *shape, int64_t low, int64_t end);
/* Sets batch from `lengths`, a sequence of ints >= 1 with sum `rows`; None: one sequence. Sets 'S'
 * to their number. */
void ha_call_lengths(ha_call *call, PyObject *lengths, const char *name, int rows, ha_batch *batch);

#endif
