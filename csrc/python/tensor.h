/* class Tensor. */
#ifndef HA_PYTHON_TENSOR_H
#define HA_PYTHON_TENSOR_H

#include "python/state.h"

/* Creates the type and adds it to the module; -1 with an exception. */
int ha_add_tensor(PyObject *module, module_state *state);

#endif
