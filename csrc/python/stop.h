/* A request to stop that a signal handler makes and work that can stop takes. */
#ifndef HA_PYTHON_STOP_H
#define HA_PYTHON_STOP_H

#include "python/api.h"

/* request_stop() -> bool: notes the request; False when one was waiting already. */
PyObject *ha_request_stop(PyObject *module, PyObject *unused);

/* take_stop() -> bool: whether a stop was asked for in this thread; the request is then gone. */
PyObject *ha_take_stop(PyObject *module, PyObject *unused);

/* Runs pending signal handlers and takes a request. -1 with an exception set when the work has to
 * stop, else 0. The caller holds the GIL. */
int ha_check_stop(void);

#endif
