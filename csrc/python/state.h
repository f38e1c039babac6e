/* What belongs to one import of the module: its types. The definition of the module that holds them
 * is in state.c, so that a type finds its module without knowing the file that lists the types. */
#ifndef HA_PYTHON_STATE_H
#define HA_PYTHON_STATE_H

#include "python/api.h"

typedef struct {
    PyTypeObject *tensor, *model, *cache, *scorer, *distiller;
} module_state;

/* The state of the module that `type` (or its base) belongs to; NULL with an exception. */
module_state *ha_state_of(PyTypeObject *type);

/* What PyInit__core returns, for these functions and slots, which must live for ever. */
PyObject *ha_state_define(PyMethodDef *methods, PyModuleDef_Slot *slots);

#endif
