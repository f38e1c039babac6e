/* What the methods of KLScorer are asked: windows of a token stream under some gates. */
#ifndef HA_PYTHON_SCORER_REQUEST_H
#define HA_PYTHON_SCORER_REQUEST_H

#include "python/windows_arg.h"

/* The object behind KLScorer; teacher NULL: the model is its own. */
typedef struct {
    PyObject_HEAD model_object *model, *teacher;
    int64_t layer_passes;
} scorer_object;

/* The arguments as they were passed, borrowed. */
typedef struct {
    PyObject *tokens, *windows, *gates, *teacher_hidden, *weights, *segments;
} scorer_arguments;

/* Arguments of which none was passed. */
static inline scorer_arguments ha_scorer_defaults(void)
{
    return (scorer_arguments){NULL, NULL, Py_None, Py_None, Py_None, Py_None};
}

/* The same, checked, with what the core needs to answer. */
typedef struct {
    windows_arg windows;
    PyArrayObject *gates;          /* [num_layers]: as passed, or the model's own at the call */
    PyArrayObject *teacher_hidden; /* [tokens, hidden_size] or NULL */
    PyArrayObject *weights;        /* [tokens] or NULL */
    ha_scorer core;
} scorer_request;

/* shortest: tokens that every window must have. Returns 0, or -1 with an exception and nothing
 * held. */
int ha_scorer_parse(scorer_object *self, const scorer_arguments *given, int shortest, scorer_request *request);
/* Lets go of what it refers to. */
void ha_scorer_clear(scorer_request *request);

/* The gates [num_layers] of a request. */
static inline const float *ha_scorer_gates(const scorer_request *request)
{
    return PyArray_DATA(request->gates);
}

/* Layer numbers to flip, a sequence: ascending, each of a layer with both mixers. Returns their
 * count, or -1 with an exception; *out is freed by the caller with PyMem_Free. */
int ha_flip_layers_parse(const ha_model *model, PyObject *object, int **out);

#endif
