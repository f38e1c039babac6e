/* The arguments of Distiller.run, checked. */
#include "python/distiller_data.h"

#include <math.h>

#include "python/arrays.h"

void ha_run_data_clear(run_data *data)
{
    Py_CLEAR(data->lr);
    Py_CLEAR(data->teacher_hidden);
    Py_CLEAR(data->weights);
    Py_CLEAR(data->labels);
    ha_windows_clear(&data->windows);
}

ha_train_data ha_run_data_of_step(const distiller_object *self, const run_data *data, int64_t step)
{
    const ha_task *task = &self->student->model->config.task;
    ha_train_data found = {.teacher_hidden = data->teacher_hidden ? PyArray_DATA(data->teacher_hidden) : NULL,
                           .weight = data->weights ? PyArray_DATA(data->weights) : NULL};
    if (data->labels) {
        const npy_intp at = step * PyArray_DIM(data->labels, 1) * PyArray_DIM(data->labels, 2);
        if (task->kind == HA_TASK_REGRESS)
            found.labels.value = (const float *)PyArray_DATA(data->labels) + at;
        else
            found.labels.target = (const int32_t *)PyArray_DATA(data->labels) + at;
    }
    return found;
}

/* A copy, which a callback cannot change, of rates [steps, 2] that are finite and not negative. */
static PyArrayObject *lr_of(PyObject *object, const npy_intp shape[2])
{
    PyArrayObject *given = ha_array_arg(object, "lr", NPY_FLOAT32, 2, shape);
    PyArrayObject *lr = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    for (npy_intp i = 0; lr && i < 2 * shape[0]; i++) {
        const float rate = ((const float *)PyArray_DATA(lr))[i];
        if (!(rate >= 0.0f && rate < INFINITY)) {
            PyObject *value = PyFloat_FromDouble((double)rate);
            PyErr_Format(PyExc_ValueError, "lr[%zd, %d] is %R, allowed are finite numbers from 0 on",
                         (Py_ssize_t)(i / 2), (int)(i % 2), value);
            Py_XDECREF(value);
            Py_CLEAR(lr);
        }
    }
    return lr;
}

/* Labels that one window of the task takes. */
static int labels_per_window(const ha_task *task)
{
    return task->kind == HA_TASK_CLASSIFY ? 1 : task->labels;
}

/* A copy of labels [steps, batch, k]; NULL with an exception. */
static PyArrayObject *labels_of(const ha_task *task, const windows_arg *windows, PyObject *object)
{
    const npy_intp shape[3] = {PyArray_DIM(windows->windows, 0), PyArray_DIM(windows->windows, 1),
                               labels_per_window(task)};
    const int type = task->kind == HA_TASK_REGRESS ? NPY_FLOAT32 : NPY_INT32;
    PyArrayObject *given = ha_array_arg(object, "labels", type, 3, shape);
    PyArrayObject *labels = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    return labels;
}

/* 0 when the values [k] at labels[step, place] are finite, else -1 with a ValueError. */
static int check_values(const ha_task *task, const float *value, Py_ssize_t step, Py_ssize_t place)
{
    for (int k = 0; k < task->labels; k++)
        if (!isfinite(value[k])) {
            PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is not a finite number", step, place);
            return -1;
        }
    return 0;
}

/* 0 when labels[step, place] is a class of the task, or a start and an end (included) inside a
 * window of that length; else -1 with a ValueError. */
static int check_target(const ha_task *task, const int32_t *target, int64_t length, Py_ssize_t step, Py_ssize_t place)
{
    if (task->kind == HA_TASK_CLASSIFY && (target[0] < 0 || target[0] >= task->labels)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is %d, allowed are 0 to %d", step, place, target[0],
                     task->labels - 1);
        return -1;
    }
    if (task->kind == HA_TASK_SPAN && !(target[0] >= 0 && target[0] <= target[1] && target[1] < length)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is the span %d to %d, allowed are 0 <= first <= last < %lld",
                     step, place, target[0], target[1], (long long)length);
        return -1;
    }
    return 0;
}

/* 0 when every window has labels that its task allows, else -1 with a ValueError. */
static int check_labels(const ha_task *task, const run_data *data)
{
    const int64_t *window = data->windows.view.window;
    const npy_intp batch = PyArray_DIM(data->labels, 1), each = labels_per_window(task);
    const void *labels = PyArray_DATA(data->labels);
    int status = 0;
    for (npy_intp i = 0; status == 0 && i < data->windows.view.count; i++) {
        const Py_ssize_t step = (Py_ssize_t)(i / batch), place = (Py_ssize_t)(i % batch);
        if (task->kind == HA_TASK_REGRESS)
            status = check_values(task, (const float *)labels + i * each, step, place);
        else
            status =
                check_target(task, (const int32_t *)labels + i * each, window[2 * i + 1] - window[2 * i], step, place);
    }
    return status;
}

/* The windows, and that the numbers of steps and the callback fit them. */
static int parse_steps(const distiller_object *self, const run_arguments *given, windows_arg *windows)
{
    const int next_token = self->stage == HA_STAGE_FINETUNE && self->student->model->config.task.kind == HA_TASK_NONE;
    if (ha_windows_parse(self->student, given->tokens, given->windows, given->segments, next_token ? 2 : 1, windows) <
        0)
        return -1;
    if (PyArray_NDIM(windows->windows) != 3 || PyArray_DIM(windows->windows, 1) < 1) {
        PyErr_SetString(PyExc_ValueError, "windows must have shape [steps, batch, 2]");
        return -1;
    }
    const Py_ssize_t total = (Py_ssize_t)PyArray_DIM(windows->windows, 0);
    if (given->start < 0 || given->stop < given->start || given->stop > total) {
        PyErr_Format(PyExc_ValueError, "steps %lld to %lld, allowed are 0 to %zd", given->start, given->stop, total);
        return -1;
    }
    if (given->callback != Py_None && !PyCallable_Check(given->callback)) {
        PyErr_SetString(PyExc_TypeError, "callback must be callable");
        return -1;
    }
    return 0;
}

int ha_run_data_parse(const distiller_object *self, const run_arguments *given, run_data *data)
{
    const ha_config *config = &self->student->model->config;
    const int wants_labels = self->stage == HA_STAGE_FINETUNE && config->task.kind != HA_TASK_NONE;
    *data = (run_data){0};
    if (parse_steps(self, given, &data->windows) < 0)
        return -1;
    if (wants_labels != (given->labels != Py_None)) {
        PyErr_SetString(PyExc_ValueError, wants_labels
                                              ? "labels is None: stage finetune of a model with a task needs them"
                                              : "labels are for stage finetune of a model with a task");
        return -1;
    }
    if (given->weights != Py_None && self->stage == HA_STAGE_ALIGN) {
        PyErr_SetString(PyExc_ValueError, "weights are for stages distill and finetune");
        return -1;
    }
    const npy_intp lr_shape[2] = {PyArray_DIM(data->windows.windows, 0), 2};
    const npy_intp hidden_shape[2] = {PyArray_DIM(data->windows.tokens, 0), config->hidden_size};
    if (given->lr && !(data->lr = lr_of(given->lr, lr_shape)))
        return -1;
    if (given->teacher_hidden != Py_None &&
        !(data->teacher_hidden = ha_array_arg(given->teacher_hidden, "teacher_hidden", NPY_FLOAT32, 2, hidden_shape)))
        return -1;
    if (given->weights != Py_None && !(data->weights = ha_weights_parse(self->student, &data->windows, given->weights)))
        return -1;
    if (wants_labels && !(data->labels = labels_of(&config->task, &data->windows, given->labels)))
        return -1;
    return wants_labels ? check_labels(&config->task, data) : 0;
}
