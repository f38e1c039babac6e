/* A kind of mixer made of Python functions on arrays: register_mixer(), a function of the module.
 *
 *     external_kind.c     what it declares, and its registration
 *     external_call.c     one callback: the GIL, views of the core's memory, results
 *     external_mixer.c    its passes
 *
 * The core calls with the GIL released, from the thread that called the core; the callback takes it. An exception stays
 * pending on that thread and the pass ends as an interrupt does: nothing has changed. The forward pass is made again for
 * the backward pass, so that no Python object outlives a call. Decode state is one float array a sequence, which the
 * cache copies like any other. */
#ifndef HA_PYTHON_EXTERNAL_MIXER_H
#define HA_PYTHON_EXTERNAL_MIXER_H

#include "mixers/mixer.h"
#include "python/module.h"

enum { HA_MAX_LEAF = 40 };

typedef struct {
    ha_mixer_kind kind; /* first: a mixer's kind leads here */
    char name[HA_MAX_LEAF + 1];
    PyObject *forward, *vjp, *step, *parameters, *init, *state;
    /* What parameters(config) and state(config) gave: bytes of the config -> (dict, shape or None). */
    PyObject *declared;
} ha_external_kind;

static inline const ha_external_kind *ha_external_of(const ha_mixer *mixer)
{
    return (const ha_external_kind *)mixer->kind;
}

PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *ha_external_config(const ha_config *c);
/* (parameters, state shape or None) for a model's config, borrowed; asked once and kept. */
PyObject *ha_external_declared(const ha_external_kind *kind, const ha_config *c);
/* Numbers of a shape (1 for None), and its sizes in `out`; returns how many. */
size_t ha_shape_floats(PyObject *shape);
int ha_shape_array(PyObject *shape, npy_intp *out);

/* Views of the core's memory that one callback hands out; none may be kept. models: whose memory that may be. */
typedef struct {
    PyGILState_STATE gil;
    const ha_external_kind *kind;
    PyObject *views, *models; /* list, tuple */
    int failed;
} ha_callback;

ha_callback ha_callback_begin(const ha_mixer *mixer);
ha_status ha_callback_end(ha_callback *call);
/* A read-only array over memory of the core, owned by call->views; a new reference, NULL after a failure. */
PyObject *ha_callback_view(ha_callback *call, const float *data, int ndim, const npy_intp *shape);
/* name -> view of each parameter; a new reference */
PyObject *ha_callback_params(ha_callback *call, const ha_mixer *mixer, const float *weights);
/* to += factor * array, which must have that shape; any real type. `what` names it in the error. */
void ha_callback_add(ha_callback *call, const char *what, PyObject *object, int ndim, const npy_intp *shape,
                     float factor, float *to);
/* Calls function(*args) (args is consumed) and takes its result apart as a pair of new references. */
void ha_callback_pair(ha_callback *call, const char *what, PyObject *function, PyObject *args, PyObject *pair[2]);

void ha_external_init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng);
ha_status ha_external_forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                              float *saved, ha_state *state);
ha_status ha_external_backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                               const float *dout, float *dx, double *gate);

#endif
