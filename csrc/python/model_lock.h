/* One core call at a time works on a model. */
#ifndef HA_PYTHON_MODEL_LOCK_H
#define HA_PYTHON_MODEL_LOCK_H

#include "core/status.h"
#include "python/model_object.h"

/* Takes the lock of `model`, and of `other` unless it is NULL or the same, waiting for them without
 * the GIL. Fails with a RuntimeError (and HA_INTERRUPTED) where this thread holds one already: a
 * signal handler runs inside a call; or where the process was forked while another thread held
 * it. */
ha_status ha_lock(model_object *model, model_object *other);
/* Lets both go again. */
void ha_unlock(model_object *model, model_object *other);
/* A new tuple of the models whose locks this thread holds. */
PyObject *ha_models_in_use(void);

/* One call of the core on a model, from ha_core_begin to ha_core_end. */
typedef struct {
    model_object *model, *other;
    PyThreadState *thread; /* NULL where the locks were refused */
    size_t mark;           /* of the model's arena */
    ha_status status;      /* of the locks, then of the call */
} ha_core_call;

/* Takes the locks as ha_lock does and releases the GIL. The core may be called when status is HA_OK
 * only. */
ha_core_call ha_core_begin(model_object *model, model_object *other);
/* Takes back the GIL and what the call left on the model's arena, releases the locks, and returns
 * the status. */
ha_status ha_core_end(ha_core_call *call);

#endif
