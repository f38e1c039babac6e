/* Distiller.run: the steps of a stage over windows of a token stream. */
#include "python/distiller_run.h"

#include "python/arrays.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/windows_arg.h"

#include <math.h>

static int report(PyObject *callback, int64_t step, const double *loss, int n, double norm, int64_t tokens)
{
    double mean = 0.0;
    int terms = 0;
    for (int i = 0; i < n; i++)
        if (loss[i] != 0.0) { /* layers that are not trained report 0 */
            mean += loss[i];
            terms++;
        }
    PyObject *result =
        PyObject_CallFunction(callback, "LddL", (long long)step, terms ? mean / terms : 0.0, norm, (long long)tokens);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* What a run is given, checked: lr [steps, 2], hidden [n, hidden_size], weights [n], labels [steps,
 * batch, k]. */
typedef struct {
    windows_arg w;
    PyArrayObject *lr, *hidden, *weights, *labels;
} run_arg;

static void clear(run_arg *r)
{
    Py_CLEAR(r->lr);
    Py_CLEAR(r->hidden);
    Py_CLEAR(r->weights);
    Py_CLEAR(r->labels);
    ha_windows_clear(&r->w);
}

static ha_train_data data_of(const distiller_object *self, const run_arg *r, int64_t step)
{
    const ha_task *task = &self->student->model->config.task;
    ha_train_data given = {.teacher_hidden = r->hidden ? PyArray_DATA(r->hidden) : NULL,
                           .weight = r->weights ? PyArray_DATA(r->weights) : NULL};
    if (r->labels) {
        const npy_intp at = step * PyArray_DIM(r->labels, 1) * PyArray_DIM(r->labels, 2);
        if (task->kind == HA_TASK_REGRESS)
            given.labels.value = (const float *)PyArray_DATA(r->labels) + at;
        else
            given.labels.target = (const int32_t *)PyArray_DATA(r->labels) + at;
    }
    return given;
}

/* Steps start .. stop - 1 of windows [steps, batch, 2]. */
static int steps(distiller_object *self, const run_arg *r, int64_t start, int64_t stop, PyArrayObject *losses,
                 PyObject *callback)
{
    const npy_intp batch = PyArray_DIM(r->w.windows, 1), columns = PyArray_DIM(losses, 1);
    int64_t tokens = 0;
    for (int64_t i = start; i < stop; i++) {
        const ha_windows part = {r->w.view.token, r->w.view.window + i * batch * 2, (int)batch, r->w.view.vocabulary,
                                 r->w.view.segment};
        const ha_train_data given = data_of(self, r, i);
        const float *rate = (const float *)PyArray_DATA(r->lr) + 2 * i;
        const float by_group[2] = {[HA_GROUP_MIXER] = rate[0], [HA_GROUP_REST] = rate[1]};
        double *loss = (double *)PyArray_DATA(losses) + (i - start) * columns, norm = 0.0;
        memset(loss, 0, (size_t)columns * sizeof *loss);
        ha_core_call core = ha_core_begin(self->student, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_trainer_step(self->trainer, &part, by_group, &given, &self->student->arena, &ha_signals,
                                          loss, &norm);
        const ha_status status = ha_core_end(&core);
        if (status != HA_OK) {
            ha_raise(status);
            return -1;
        }
        for (npy_intp b = 0; b < batch; b++)
            tokens += part.window[2 * b + 1] - part.window[2 * b];
        if (callback != Py_None && report(callback, i, loss, (int)columns, norm, tokens) < 0)
            return -1;
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

/* A copy, which a callback cannot change, of rates that are finite and not negative. */
static PyArrayObject *lr_of(PyObject *object, const npy_intp shape[2])
{
    PyArrayObject *given = ha_array_arg(object, "lr", NPY_FLOAT32, 2, shape);
    PyArrayObject *lr = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    for (npy_intp i = 0; lr && i < 2 * shape[0]; i++) {
        float rate = ((const float *)PyArray_DATA(lr))[i];
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

/* One label of window `at`: a class below `labels`, finite values, or a start and an end (included)
 * inside the window. */
static int check_label(const ha_task *task, const run_arg *r, npy_intp at)
{
    const npy_intp batch = PyArray_DIM(r->labels, 1);
    const Py_ssize_t i = (Py_ssize_t)(at / batch), j = (Py_ssize_t)(at % batch);
    const int32_t *target = (const int32_t *)PyArray_DATA(r->labels) + (task->kind == HA_TASK_SPAN ? 2 * at : at);
    const float *value = (const float *)PyArray_DATA(r->labels) + at * task->labels;
    const int64_t length = r->w.view.window[2 * at + 1] - r->w.view.window[2 * at];
    for (int k = 0; task->kind == HA_TASK_REGRESS && k < task->labels; k++)
        if (!isfinite(value[k])) {
            PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is not a finite number", i, j);
            return -1;
        }
    if (task->kind == HA_TASK_CLASSIFY && (target[0] < 0 || target[0] >= task->labels)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is %d, allowed are 0 to %d", i, j, target[0],
                     task->labels - 1);
        return -1;
    }
    if (task->kind == HA_TASK_SPAN && !(target[0] >= 0 && target[0] <= target[1] && target[1] < length)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is the span %d to %d, allowed are 0 <= first <= last < %lld",
                     i, j, target[0], target[1], (long long)length);
        return -1;
    }
    return 0;
}

/* A copy of labels [steps, batch, k], or NULL with an exception. */
static PyArrayObject *labels_of(const distiller_object *self, const run_arg *r, PyObject *object)
{
    const ha_task *task = &self->student->model->config.task;
    const npy_intp shape[3] = {PyArray_DIM(r->w.windows, 0), PyArray_DIM(r->w.windows, 1),
                               task->kind == HA_TASK_CLASSIFY ? 1 : task->labels};
    const int type = task->kind == HA_TASK_REGRESS ? NPY_FLOAT32 : NPY_INT32;
    PyArrayObject *given = ha_array_arg(object, "labels", type, 3, shape);
    PyArrayObject *labels = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    return labels;
}

static int parse_run(const distiller_object *self, PyObject *lr, PyObject *hidden, PyObject *weights, PyObject *labels,
                     run_arg *r)
{
    const ha_config *c = &self->student->model->config;
    const npy_intp lr_shape[2] = {PyArray_DIM(r->w.windows, 0), 2},
                   hidden_shape[2] = {PyArray_DIM(r->w.tokens, 0), c->hidden_size};
    const int wants = self->stage == HA_STAGE_FINETUNE && c->task.kind != HA_TASK_NONE;
    if (wants != (labels != Py_None)) {
        PyErr_SetString(PyExc_ValueError, wants ? "labels is None: stage finetune of a model with a task needs them"
                                                : "labels are for stage finetune of a model with a task");
        return -1;
    }
    if (weights != Py_None && self->stage != HA_STAGE_DISTILL) {
        PyErr_SetString(PyExc_ValueError, "weights are for stage distill");
        return -1;
    }
    if (!(r->lr = lr_of(lr, lr_shape)) ||
        (hidden != Py_None && !(r->hidden = ha_array_arg(hidden, "teacher_hidden", NPY_FLOAT32, 2, hidden_shape))) ||
        (weights != Py_None && !(r->weights = ha_weights_parse(self->student, &r->w, weights))) ||
        (wants && !(r->labels = labels_of(self, r, labels))))
        return -1;
    for (npy_intp i = 0; wants && i < r->w.view.count; i++)
        if (check_label(&c->task, r, i) < 0)
            return -1;
    return 0;
}

PyObject *ha_distiller_run(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens",   "windows", "lr",     "start",    "stop",   "teacher_hidden",
                            "callback", "weights", "labels", "segments", "losses", NULL};
    PyObject *tokens, *windows, *lr, *hidden = Py_None, *callback = Py_None, *weights = Py_None, *labels = Py_None,
                                     *segments = Py_None, *table = Py_None;
    long long start, stop;
    run_arg r = {0};
    PyArrayObject *losses = NULL;
    const ha_config *c = &self->student->model->config;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOLL|OOOOOO:run", names, &tokens, &windows, &lr, &start, &stop,
                                     &hidden, &callback, &weights, &labels, &segments, &table))
        return NULL;
    const int shortest = self->stage == HA_STAGE_FINETUNE && c->task.kind == HA_TASK_NONE ? 2 : 1;
    if (ha_windows_parse(self->student, tokens, windows, segments, shortest, &r.w) < 0)
        return NULL;
    if (PyArray_NDIM(r.w.windows) != 3 || PyArray_DIM(r.w.windows, 1) < 1) {
        PyErr_SetString(PyExc_ValueError, "windows must have shape [steps, batch, 2]");
        goto fail;
    }
    npy_intp total = PyArray_DIM(r.w.windows, 0);
    if (start < 0 || stop < start || stop > total) {
        PyErr_Format(PyExc_ValueError, "steps %lld to %lld, allowed are 0 to %zd", start, stop, (Py_ssize_t)total);
        goto fail;
    }
    if (callback != Py_None && !PyCallable_Check(callback)) {
        PyErr_SetString(PyExc_TypeError, "callback must be callable");
        goto fail;
    }
    if (parse_run(self, lr, hidden, weights, labels, &r) < 0)
        goto fail;
    npy_intp out_shape[2] = {(npy_intp)(stop - start), self->stage == HA_STAGE_ALIGN ? c->num_layers : 1};
    losses = table == Py_None ? (PyArrayObject *)PyArray_SimpleNew(2, out_shape, NPY_FLOAT64)
                              : ha_array_out(table, "losses", NPY_FLOAT64, 2, out_shape);
    if (losses && steps(self, &r, start, stop, losses, callback) < 0)
        Py_CLEAR(losses);
fail:
    clear(&r);
    return (PyObject *)losses;
}
