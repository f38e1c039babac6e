/* Failures of the core in Python: a status becomes an exception, a signal an interrupt. */
#ifndef HA_PYTHON_RAISE_H
#define HA_PYTHON_RAISE_H

#include "core/batch.h"
#include "core/status.h"
#include "python/api.h"

/* Sets the exception that belongs to a failed status and returns NULL. HA_INTERRUPTED keeps the
 * pending one. */
PyObject *ha_raise(ha_status status);

/* The core's question whether to stop: takes the GIL and runs pending signal handlers; yes when one
 * raised. */
extern const ha_interrupt ha_signals;

#endif
