/* The locks of models. */
#include "python/model_lock.h"

#include <unistd.h>

static _Thread_local model_object *innermost; /* of the models whose locks this thread holds */

/* The first of the locks to take is the one at the lower address, so that two threads never wait
 * for each other. */
static void in_order(model_object **model, model_object **other)
{
    if (*other == *model)
        *other = NULL;
    if (*other && (uintptr_t)*other < (uintptr_t)*model) {
        model_object *first = *other;
        *other = *model;
        *model = first;
    }
}

/* A RuntimeError where the model can never be had: by this thread, which has it, or in a child
 * whose parent forked while another thread worked on it. What that thread left half done is
 * unknown, and nobody gives its lock back. */
static int refuse(model_object *model, unsigned long me)
{
    const unsigned long holder = atomic_load(&model->holder);
    if (holder && atomic_load(&model->process) != getpid())
        PyErr_SetString(PyExc_RuntimeError, "the model was in use by another thread when this process was forked: make "
                                            "or load it in the child, or fork while no call runs");
    else if (holder == me)
        PyErr_SetString(PyExc_RuntimeError, "the model is in use by a call on this thread");
    else
        return 0;
    return 1;
}

ha_status ha_lock(model_object *model, model_object *other)
{
    const unsigned long me = PyThread_get_thread_ident();
    in_order(&model, &other);
    model_object *const wanted[] = {model, other};
    for (int i = 0; i < 2; i++)
        if (wanted[i] && refuse(wanted[i], me))
            return HA_INTERRUPTED;
    for (int i = 0; i < 2; i++) {
        if (!wanted[i])
            continue;
        if (!PyThread_acquire_lock(wanted[i]->lock, NOWAIT_LOCK)) {
            PyThreadState *thread = PyEval_SaveThread();
            PyThread_acquire_lock(wanted[i]->lock, WAIT_LOCK);
            PyEval_RestoreThread(thread);
        }
        atomic_store(&wanted[i]->process, getpid());
        atomic_store(&wanted[i]->holder, me);
        wanted[i]->outer = innermost;
        innermost = wanted[i];
    }
    return HA_OK;
}

void ha_unlock(model_object *model, model_object *other)
{
    in_order(&model, &other);
    model_object *const held[] = {other, model};
    for (int i = 0; i < 2; i++)
        if (held[i]) {
            innermost = held[i]->outer;
            atomic_store(&held[i]->holder, 0);
            PyThread_release_lock(held[i]->lock);
        }
}

PyObject *ha_models_in_use(void)
{
    PyObject *list = PyList_New(0), *models = NULL;
    int ok = list != NULL;
    for (model_object *model = innermost; ok && model; model = model->outer)
        ok = PyList_Append(list, (PyObject *)model) == 0;
    if (ok)
        models = PyList_AsTuple(list);
    Py_XDECREF(list);
    return models;
}

ha_core_call ha_core_begin(model_object *model, model_object *other)
{
    ha_core_call call = {.model = model, .other = other, .status = ha_lock(model, other)};
    if (call.status == HA_OK) {
        call.mark = ha_arena_mark(&model->arena);
        call.thread = PyEval_SaveThread();
    }
    return call;
}

ha_status ha_core_end(ha_core_call *call)
{
    if (call->thread) {
        ha_arena_release(&call->model->arena, call->mark);
        PyEval_RestoreThread(call->thread);
        ha_unlock(call->model, call->other);
    }
    return call->status;
}
