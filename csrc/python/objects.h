/* The objects behind Model and Cache, for the files that use them. */
#ifndef HA_PYTHON_OBJECTS_H
#define HA_PYTHON_OBJECTS_H

#include <stdatomic.h>

#include "python/module.h"

#include "distill/distill.h"
#include "model/model.h"

/* One core call at a time works on a model: its arena, weights and caches are behind `lock`; `holder` is its thread and
 * `outer` the model that thread took before it. */
typedef struct model_object {
    PyObject_HEAD ha_model *model;
    ha_arena arena;
    PyThread_type_lock lock;
    atomic_ulong holder;
    struct model_object *outer;
    PyObject *config, *layers, *stored; /* stored: name -> (dtype, bytes) of parameters outside the arena */
} model_object;

typedef struct {
    PyObject_HEAD ha_cache *cache;
    model_object *owner;
} cache_object;

/* The model of an argument; NULL with an exception when it is not a Model or was never initialised. */
model_object *ha_model_arg(module_state *state, PyObject *object, const char *name);
int ha_model_ready(model_object *self);
/* 0, or -1 with a ValueError naming what differs: vocabulary, hidden size, task or labels of a teacher and its `other`. */
int ha_comparable(model_object *teacher, model_object *model, const char *other);

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

/* A checked stream of windows: tokens [n] int32, segments [n] int32 or NULL, and a copy of windows [m, 2] int64; the
 * references are owned. */
typedef struct {
    PyArrayObject *tokens, *segments, *windows;
    ha_windows view;
} windows_arg;

/* windows may have any shape that ends in 2; segments may be None. Token ids and bounds are checked against `model`; `shortest` tokens a window. */
int ha_windows_parse(model_object *model, PyObject *tokens, PyObject *windows, PyObject *segments, int shortest,
                     windows_arg *out);
void ha_windows_clear(windows_arg *arg);

/* Weights [n] of the stream's tokens, each 0 or more, with some in every window past the tokens that `model` does not
 * predict; refused for a model whose distance is not a sum over tokens. */
PyArrayObject *ha_weights_parse(model_object *model, const windows_arg *windows, PyObject *object);

/* A new array of gates [num_layers] as the layers use them, each in [0, 1]; None: those of the model at this moment. */
PyArrayObject *ha_gates_parse(model_object *model, PyObject *object);

/* pack.c: tokens [B,T], and segments [B,T] or None, with an optional mask [B,T] as one stream without padding. */
typedef struct {
    int n_seq, width;
    int32_t *token;   /* [rows] */
    int32_t *segment; /* [rows], or NULL */
    int64_t *window;  /* [n_seq][2] into token */
    int *first;       /* [n_seq] column of the first real token */
    int rows;
} packed;

int ha_pack(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed *out);
void ha_pack_clear(packed *p);

/* windows.c: methods of Model */
PyObject *ha_model_forward_windows(model_object *self, PyObject *args, PyObject *kwargs);
PyObject *ha_model_moments(model_object *self, PyObject *args, PyObject *kwargs);
PyObject *ha_model_task_logits(model_object *self, PyObject *args, PyObject *kwargs);

/* spec.c: arguments of Model(config, layers) */
int ha_parse_config(PyObject *config, ha_config *out, float **inv_freq);
int ha_parse_layers(PyObject *layers, int num_layers, ha_layer_spec *out);

#endif
