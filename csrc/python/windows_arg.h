/* Arguments of calls on windows of a token stream: the stream, weights of its tokens, gates. */
#ifndef HA_PYTHON_WINDOWS_ARG_H
#define HA_PYTHON_WINDOWS_ARG_H

#include "distill/distill.h"
#include "python/model_object.h"

/* A checked stream of windows: tokens [n] int32, segments [n] int32 or NULL, and a copy of windows
 * [m, 2] int64; the references are owned. */
typedef struct {
    PyArrayObject *tokens, *segments, *windows;
    ha_windows view;
} windows_arg;

/* windows may have any shape that ends in 2; segments may be None. Token ids and bounds are checked
 * against `model`; `shortest` tokens a window. */
int ha_windows_parse(model_object *model, PyObject *tokens, PyObject *windows, PyObject *segments, int shortest,
                     windows_arg *out);
/* Frees its arrays. */
void ha_windows_clear(windows_arg *arg);

/* Weights [n] of the stream's tokens, each 0 or more, with some in every window past the tokens
 * that `model` does not predict; refused for a model whose distance is not a sum over tokens. */
PyArrayObject *ha_weights_parse(model_object *model, const windows_arg *windows, PyObject *object);

/* A new array of gates [num_layers] as the layers use them, each in [0, 1]; None: those of the
 * model at this moment. */
PyArrayObject *ha_gates_parse(model_object *model, PyObject *object);

#endif
