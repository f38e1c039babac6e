/* The registration of a Python mixer. */
#ifndef HA_PYTHON_EXTERNAL_REGISTER_H
#define HA_PYTHON_EXTERNAL_REGISTER_H

#include "python/api.h"

/* Function of the module: register_mixer. */
PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs);

#endif
