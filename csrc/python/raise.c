/* Statuses to exceptions, signals to interrupts. */
#include "python/raise.h"

#include "python/stop.h"

PyObject *ha_raise(ha_status status)
{
    switch (status) {
    case HA_NO_MEMORY:
        return PyErr_Format(PyExc_MemoryError, "%s", ha_error_message());
    case HA_INTERRUPTED:
        if (!PyErr_Occurred())
            PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    default:
        return PyErr_Format(PyExc_ValueError, "%s", ha_error_message());
    }
}

/* ha_interrupt.poll */
static int poll_signals(void *arg)
{
    (void)arg;
    PyGILState_STATE gil = PyGILState_Ensure();
    int raised = ha_check_stop();
    PyGILState_Release(gil);
    return raised;
}

const ha_interrupt ha_signals = {.poll = poll_signals};
