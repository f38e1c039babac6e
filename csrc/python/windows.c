/* Model.forward_windows and Model.task_logits: forward passes over windows of a token stream. */
#include "python/objects.h"

PyObject *ha_model_forward_windows(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "out", "segments", NULL};
    PyObject *tokens, *windows, *out, *segments = Py_None;
    windows_arg w;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:forward_windows", names, &tokens, &windows, &out, &segments))
        return NULL;
    if (!ha_model_ready(self) || ha_windows_parse(self, tokens, windows, segments, 1, &w) < 0)
        return NULL;
    const npy_intp shape[2] = {PyArray_DIM(w.tokens, 0), self->model->config.hidden_size};
    PyArrayObject *to = ha_array_out(out, "out", NPY_FLOAT32, 2, shape);
    ha_status status = HA_OK;
    if (to) {
        const ha_interrupt check = {ha_poll_signals, NULL};
        HA_BEGIN_CORE(status, self, NULL)
        size_t mark = ha_arena_mark(&self->arena);
        status = ha_windows_hidden(self->model, &w.view, PyArray_DATA(to), &self->arena, &check);
        ha_arena_release(&self->arena, mark);
        HA_END_CORE(self, NULL)
    }
    ha_windows_clear(&w);
    if (!to)
        return NULL;
    Py_DECREF(to);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

PyObject *ha_model_task_logits(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "segments", NULL};
    PyObject *tokens, *windows, *segments = Py_None;
    windows_arg w;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:task_logits", names, &tokens, &windows, &segments) ||
        !ha_model_ready(self))
        return NULL;
    const ha_task *task = &self->model->config.task;
    if (task->kind == HA_TASK_NONE)
        return PyErr_Format(PyExc_ValueError,
                            "the model has no head for a task: allowed are models with one, see tasks.add_head");
    if (ha_windows_parse(self, tokens, windows, segments, 1, &w) < 0)
        return NULL;
    const npy_intp shape[2] = {task->kind == HA_TASK_SPAN ? PyArray_DIM(w.tokens, 0) : w.view.count, task->labels};
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_FLOAT32, 0);
    ha_status status = HA_OK;
    if (out) {
        const ha_interrupt check = {ha_poll_signals, NULL};
        HA_BEGIN_CORE(status, self, NULL)
        size_t mark = ha_arena_mark(&self->arena);
        status = ha_windows_task(self->model, &w.view, PyArray_DATA(out), &self->arena, &check);
        ha_arena_release(&self->arena, mark);
        HA_END_CORE(self, NULL)
    }
    ha_windows_clear(&w);
    if (status != HA_OK) {
        Py_CLEAR(out);
        ha_raise(status);
    }
    return (PyObject *)out;
}
