/* What Distiller.run trains on: windows of a token stream with learning rates, and what each stage
 * takes beside them. */
#ifndef HA_PYTHON_DISTILLER_DATA_H
#define HA_PYTHON_DISTILLER_DATA_H

#include "python/distiller_object.h"
#include "python/windows_arg.h"

/* The arguments of a run as they were passed, borrowed; steps start .. stop - 1. lr may be NULL:
 * not wanted. */
typedef struct {
    PyObject *tokens, *windows, *lr, *teacher_hidden, *callback, *weights, *labels, *segments, *losses;
    long long start, stop;
} run_arguments;

/* The same, checked. */
typedef struct {
    windows_arg windows;           /* [steps, batch, 2] */
    PyArrayObject *lr;             /* float32 [steps, 2], a copy */
    PyArrayObject *teacher_hidden; /* float32 [tokens, hidden_size] or NULL */
    PyArrayObject *weights;        /* float32 [tokens] or NULL */
    PyArrayObject *labels;         /* float32 or int32 [steps, batch, k] or NULL, a copy */
} run_data;

/* Returns 0, or -1 with an exception; the caller clears `data` after both. */
int ha_run_data_parse(const distiller_object *self, const run_arguments *given, run_data *data);
/* Lets go of what it refers to. */
void ha_run_data_clear(run_data *data);

/* What the core needs for a step besides its windows. */
ha_train_data ha_run_data_of_step(const distiller_object *self, const run_data *data, int64_t step);

#endif
