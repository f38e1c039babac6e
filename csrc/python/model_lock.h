/* One core call at a time works on a model. */
#ifndef HA_PYTHON_MODEL_LOCK_H
#define HA_PYTHON_MODEL_LOCK_H

#include "core/status.h"
#include "python/model_object.h"

/* Takes the lock of `model`, and of `other` unless it is NULL or the same, waiting for them without the GIL. Fails with a
 * RuntimeError (and HA_INTERRUPTED) where this thread holds one already: a signal handler runs inside a call. */
ha_status ha_lock(model_object *model, model_object *other);
void ha_unlock(model_object *model, model_object *other);
/* A new tuple of the models whose locks this thread holds. */
PyObject *ha_models_in_use(void);

/* A block that runs under these locks and without the GIL, and not at all when `status` says that they were refused. */
#define HA_BEGIN_CORE(status, model, other) \
    (status) = ha_lock(model, other);       \
    if ((status) == HA_OK) {                \
    Py_BEGIN_ALLOW_THREADS

#define HA_END_CORE(model, other)                 \
    Py_END_ALLOW_THREADS ha_unlock(model, other); \
    }

#endif
