/* register_mixer(name, forward, vjp, step, parameters, init, state=None), a function of the module. */
#ifndef HA_PYTHON_EXTERNAL_MIXER_H
#define HA_PYTHON_EXTERNAL_MIXER_H

#include "python/module.h"

PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs);

#endif
