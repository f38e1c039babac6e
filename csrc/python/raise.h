/* Failures of the core in Python: a status becomes an exception, a signal an interrupt. */
#ifndef HA_PYTHON_RAISE_H
#define HA_PYTHON_RAISE_H

#include "core/status.h"
#include "python/api.h"

/* Sets the exception that belongs to a failed status and returns NULL. HA_INTERRUPTED keeps the pending one. */
PyObject *ha_raise(ha_status status);

/* Poll for ha_interrupt: takes the GIL and runs pending signal handlers; non-zero when one raised. */
int ha_poll_signals(void *arg);

#endif
