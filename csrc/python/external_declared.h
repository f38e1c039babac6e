/* A kind of mixer made of Python functions on arrays, see register_mixer():
 *
 *     external_declared.c    what it declares: parameters and the shape of its state
 *     external_call.c        one callback: the GIL, views of the core's memory, results
 *     external_init.c        its start
 *     external_mixer.c       its passes
 *     external_step.c        decoding with it
 *     external_register.c    its registration
 *
 * The core calls with the GIL released, from the thread that called the core; the callback takes
 * it. An exception stays pending on that thread and the pass ends as an interrupt does: nothing has
 * changed. The forward pass is made again for the backward pass, so that no Python object outlives
 * a call. Decode state is one float array a sequence, which the cache copies like any other. */
#ifndef HA_PYTHON_EXTERNAL_DECLARED_H
#define HA_PYTHON_EXTERNAL_DECLARED_H

#include "mixers/mixer.h"
#include "python/api.h"

enum { HA_MAX_LEAF = 40 };

typedef struct {
    ha_mixer_kind kind; /* first: a mixer's kind leads here */
    char name[HA_MAX_LEAF + 1];
    PyObject *summary, *phrase; /* str, or NULL: where the texts of `kind` live */
    PyObject *forward, *vjp, *step, *parameters, *init, *state;
    /* What parameters(config) and state(config) gave: bytes of the config -> (dict, shape or
     * None). */
    PyObject *declared;
} ha_external_kind;

/* The kind of a mixer that is made of Python functions. */
static inline const ha_external_kind *ha_external_of(const ha_mixer *mixer)
{
    return (const ha_external_kind *)mixer->kind;
}

/* The dict that a kind's functions get as `config`; a new reference. */
PyObject *ha_external_config(const ha_config *config);
/* (parameters, state shape or None) for a model's config, borrowed; asked once and kept. */
PyObject *ha_external_declared(const ha_external_kind *kind, const ha_config *config);
/* True for a letter and then letters, digits and _ of at most `most` characters, with dots for a
 * parameter's name. */
int ha_external_good_name(const char *name, size_t most);
/* Numbers of a shape (1 for None), and its sizes in `out`; returns how many. */
size_t ha_shape_floats(PyObject *shape);
/* Its lengths, of which it returns the number. */
int ha_shape_array(PyObject *shape, npy_intp *out);

#endif
