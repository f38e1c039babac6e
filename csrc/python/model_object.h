/* The object behind Model, for the files that use one. */
#ifndef HA_PYTHON_MODEL_OBJECT_H
#define HA_PYTHON_MODEL_OBJECT_H

#include <stdatomic.h>

#include "model/model.h"
#include "python/state.h"

/* One core call at a time works on a model: its arena, weights and caches are behind `lock`, see
 * model_lock.h. */
typedef struct model_object {
    PyObject_HEAD ha_model *model;
    ha_arena arena;
    PyThread_type_lock lock;
    atomic_ulong holder;        /* the thread that has the lock, 0: none */
    atomic_long process;        /* and its process, set before it */
    struct model_object *outer; /* the model whose lock that thread took before */
    PyObject *config, *layers;
    PyObject *stored; /* name -> (dtype, bytes) of parameters outside the arena */
} model_object;

/* True when Model.__init__ has succeeded; else false with an exception. */
int ha_model_ready(model_object *self);
/* The model of an argument; NULL with an exception when it is not a Model or was never
 * initialised. */
model_object *ha_model_arg(module_state *state, PyObject *object, const char *name);
/* *teacher is the model of `object`, or NULL for None. It must have the vocabulary, hidden size,
 * task, labels and LM head of `model`, which errors call `name`. Returns 0, or -1 with an exception
 * that names what differs. */
int ha_teacher_arg(module_state *state, PyObject *object, const model_object *model, const char *name,
                   model_object **teacher);

#endif
