/* One callback of a Python mixer. */
#ifndef HA_PYTHON_EXTERNAL_CALL_H
#define HA_PYTHON_EXTERNAL_CALL_H

#include "python/external_declared.h"

/* Views of the core's memory that one callback hands out; none may be kept. models: whose memory
 * that may be. */
typedef struct {
    PyGILState_STATE gil;
    const ha_external_kind *kind;
    PyObject *views, *models; /* list, tuple */
    int failed;
} ha_callback;

/* Takes the GIL. */
ha_callback ha_callback_begin(const ha_mixer *mixer);
/* Releases it. Fails when a view was kept; HA_INTERRUPTED, with an exception, when the call has
 * failed. */
ha_status ha_callback_end(ha_callback *call);
/* A read-only array over memory of the core, owned by call->views; a new reference, NULL after a
 * failure. */
PyObject *ha_callback_view(ha_callback *call, const float *data, int ndim, const npy_intp *shape);
/* name -> view of each parameter; a new reference */
PyObject *ha_callback_params(ha_callback *call, const ha_mixer *mixer, const float *weights);
/* to += factor * array, which must have that shape; any real type. `what` names it in the error. */
void ha_callback_add(ha_callback *call, const char *what, PyObject *object, int ndim, const npy_intp *shape,
                     float factor, float *to);
/* The parameters in `floats`, weights or gradients, become zero. */
void ha_callback_clear_params(ha_callback *call, const ha_mixer *mixer, float *floats);
/* floats += dict, which has an array of each parameter by name. The error says "`missing` NAME" of
 * one without. */
void ha_callback_add_params(ha_callback *call, const ha_mixer *mixer, const char *missing, PyObject *dict,
                            float *floats);
/* Calls function(*args) (args is consumed) and takes its result apart as a pair of new
 * references. */
void ha_callback_pair(ha_callback *call, const char *what, PyObject *function, PyObject *args, PyObject *pair[2]);

#endif
