/* Python drops an exception that a signal handler raises inside __del__ or a weakref callback. So
 * the handler only notes the request here, and long calls ask for it. It belongs to the thread that
 * ran the handler, Python's main one: other threads go on, as they do under Python's own
 * handler. */
#include "python/stop.h"

#include <stdatomic.h>

static atomic_ulong asked; /* the identity of the thread that noted a request, 0 for none */

PyObject *ha_request_stop(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(atomic_exchange(&asked, PyThread_get_thread_ident()) == 0);
}

static int take(void)
{
    unsigned long here = PyThread_get_thread_ident();
    return atomic_compare_exchange_strong(&asked, &here, 0UL);
}

PyObject *ha_take_stop(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(take());
}

int ha_check_stop(void)
{
    if (PyErr_CheckSignals() < 0)
        return -1;
    if (!take())
        return 0;
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}
