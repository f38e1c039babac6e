/* The sub-modules hybridattn._core.ops and hybridattn._core.reference. */
#ifndef HA_PYTHON_SUBMODULES_H
#define HA_PYTHON_SUBMODULES_H

#include "python/api.h"

/* Each makes one of them, importable by its full name; -1 with an exception. */
int ha_add_ops(PyObject *module);
/* _core.reference: the naive twins. */
int ha_add_reference(PyObject *module);

#endif
