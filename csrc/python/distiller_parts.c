/* Distiller's arena, blocks, stages, gradients, fold, squares, update and align_part: the parts of a step.
 * Every process of a shared step calls them on its share, and sends what lies in the arrays between
 * them. */
#include "python/distiller_parts.h"

#include <string.h>

#include "python/arrays.h"
#include "python/distiller_data.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/stop.h"
#include "python/tensor_memory.h"

static const npy_intp *arena_shape(const distiller_object *self, npy_intp shape[1])
{
    shape[0] = (npy_intp)self->student->model->params.total;
    return shape;
}

/* A writable array like the arena, borrowed by the caller until it lets go of it. */
static PyArrayObject *arena_like(const distiller_object *self, PyObject *object, const char *name)
{
    npy_intp shape[1];
    return ha_array_out(object, name, NPY_FLOAT32, 1, arena_shape(self, shape));
}

/* 0 when blocks first .. stop - 1 are there, else -1 with a ValueError. */
static int check_blocks(const distiller_object *self, int first, int stop)
{
    const int count = ha_trainer_blocks(self->trainer);
    if (first >= 0 && first <= stop && stop <= count)
        return 0;
    PyErr_Format(PyExc_ValueError, "blocks %d to %d, allowed are 0 to %d", first, stop, count);
    return -1;
}

PyObject *ha_distiller_arena(distiller_object *self, PyObject *name)
{
    const char *wanted = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : "";
    void *data = NULL;
    ha_dtype dtype = HA_F32;
    if (!wanted)
        return NULL;
    if (strcmp(wanted, "weights") == 0)
        data = self->student->model->weights;
    else if (strcmp(wanted, "m") == 0 || strcmp(wanted, "v") == 0) {
        data = ha_trainer_moment(self->trainer, wanted[0] == 'v', 0);
        dtype = ha_trainer_moments(self->trainer);
    }
    module_state *state = ha_state_of(Py_TYPE(self));
    if (!data)
        return PyErr_Format(PyExc_ValueError, "arena is %R, allowed are 'weights', 'm', 'v'", name);
    const Py_ssize_t shape[1] = {(Py_ssize_t)self->student->model->params.total};
    return state ? (PyObject *)ha_tensor_new(state->tensor, dtype, 1, shape, data, (PyObject *)self, 0) : NULL;
}

PyObject *ha_distiller_blocks(distiller_object *self, PyObject *unused)
{
    (void)unused;
    npy_intp count = ha_trainer_blocks(self->trainer) + 1;
    PyObject *found = PyArray_SimpleNew(1, &count, NPY_INT64);
    for (int i = 0; found && i < count; i++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)found))[i] = (int64_t)ha_trainer_block(self->trainer, i);
    return found;
}

PyObject *ha_distiller_stages(distiller_object *self, PyObject *unused)
{
    (void)unused;
    npy_intp count = ha_trainer_blocks(self->trainer);
    PyObject *found = PyArray_SimpleNew(1, &count, NPY_INT64);
    if (found)
        ha_trainer_stages(self->trainer, PyArray_DATA((PyArrayObject *)found));
    return found;
}

/* The windows of one step, [1, batch, 2]; -1 with an exception */
static int parse_step(const distiller_object *self, run_arguments *given, run_data *data)
{
    given->start = 0;
    given->stop = 1;
    given->callback = Py_None;
    if (ha_run_data_parse(self, given, data) < 0)
        return -1;
    if (PyArray_DIM(data->windows.windows, 0) == 1)
        return 0;
    PyErr_SetString(PyExc_ValueError, "windows must have shape [1, batch, 2]: those of one step");
    return -1;
}

PyObject *ha_distiller_gradients(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens",         "windows", "first",  "stop",     "grads",
                            "teacher_hidden", "weights", "labels", "segments", NULL};
    run_arguments given = {
        .teacher_hidden = Py_None, .weights = Py_None, .labels = Py_None, .segments = Py_None, .lr = NULL};
    run_data data = {0};
    PyObject *grads_given, *result = NULL;
    PyArrayObject *grads = NULL;
    int first, stop;
    double loss = 0.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOiiO|OOOO:gradients", names, &given.tokens, &given.windows, &first,
                                     &stop, &grads_given, &given.teacher_hidden, &given.weights, &given.labels,
                                     &given.segments))
        return NULL;
    if (self->stage == HA_STAGE_ALIGN) {
        PyErr_SetString(PyExc_ValueError, "gradients is for stages distill and finetune; align has align_part");
        return NULL;
    }
    if (parse_step(self, &given, &data) == 0 && (grads = arena_like(self, grads_given, "grads"))) {
        const int batch = (int)PyArray_DIM(data.windows.windows, 1);
        const ha_share share = {&data.windows.view, first, stop};
        const ha_train_data step = ha_run_data_of_step(self, &data, 0);
        if (first < 0 || first >= stop || stop > batch) {
            PyErr_Format(PyExc_ValueError, "windows %d to %d of a step, allowed are 0 to %d", first, stop, batch);
        } else {
            ha_core_call core = ha_core_begin(self->student, self->teacher);
            if (core.status == HA_OK)
                core.status = ha_trainer_gradients(self->trainer, &share, &step, PyArray_DATA(grads),
                                                   &self->student->arena, &ha_signals, &loss);
            if (ha_core_end(&core) == HA_OK)
                result = PyFloat_FromDouble(loss);
            else
                ha_raise(core.status);
        }
    }
    Py_XDECREF(grads);
    ha_run_data_clear(&data);
    return result;
}

/* Calls the core with the locks held; None, or NULL with an exception. */
#define CALL_CORE(self, expression)                               \
    do {                                                          \
        ha_core_call core = ha_core_begin((self)->student, NULL); \
        if (core.status == HA_OK)                                 \
            core.status = (expression);                           \
        if (ha_core_end(&core) == HA_OK)                          \
            result = Py_NewRef(Py_None);                          \
        else                                                      \
            ha_raise(core.status);                                \
    } while (0)

PyObject *ha_distiller_fold(distiller_object *self, PyObject *args)
{
    PyObject *sum_given, *more_given, *result = NULL;
    if (!PyArg_ParseTuple(args, "OO:fold", &sum_given, &more_given))
        return NULL;
    PyArrayObject *sum = arena_like(self, sum_given, "sum");
    PyArrayObject *more = sum ? arena_like(self, more_given, "more") : NULL;
    if (more)
        CALL_CORE(self, ha_trainer_fold(self->trainer, PyArray_DATA(sum), PyArray_DATA(more), &self->student->arena));
    Py_XDECREF(sum);
    Py_XDECREF(more);
    return result;
}

PyObject *ha_distiller_squares(distiller_object *self, PyObject *args)
{
    PyObject *grads_given, *result = NULL;
    int first, stop;
    if (!PyArg_ParseTuple(args, "Oii:squares", &grads_given, &first, &stop) || check_blocks(self, first, stop) < 0)
        return NULL;
    PyArrayObject *grads = arena_like(self, grads_given, "grads");
    npy_intp count = stop - first;
    PyArrayObject *squares = grads ? (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64) : NULL;
    if (squares)
        CALL_CORE(self, ha_trainer_squares(self->trainer, PyArray_DATA(grads), first, stop, PyArray_DATA(squares),
                                           &self->student->arena));
    Py_XDECREF(grads);
    if (!result) {
        Py_XDECREF(squares);
        return NULL;
    }
    Py_DECREF(result);
    return (PyObject *)squares;
}

PyObject *ha_distiller_update(distiller_object *self, PyObject *args)
{
    PyObject *grads_given, *result = NULL;
    float mixers, rest;
    double norm;
    int first, stop;
    if (!PyArg_ParseTuple(args, "Oiid(ff):update", &grads_given, &first, &stop, &norm, &mixers, &rest) ||
        check_blocks(self, first, stop) < 0)
        return NULL;
    const float lr[2] = {[HA_GROUP_MIXER] = mixers, [HA_GROUP_REST] = rest};
    PyArrayObject *grads = arena_like(self, grads_given, "grads");
    if (grads)
        CALL_CORE(self,
                  ha_trainer_update(self->trainer, PyArray_DATA(grads), first, stop, norm, lr, &self->student->arena));
    Py_XDECREF(grads);
    return result;
}

/* One end of the teacher's stream: NULL for None, else an array [rows, hidden_size]; -1 with an
 * exception */
static int stream_of(PyObject *object, const char *name, npy_intp rows, npy_intp hidden, PyArrayObject **out)
{
    const npy_intp shape[2] = {rows, hidden};
    *out = object == Py_None ? NULL : ha_array_out(object, name, NPY_FLOAT32, 2, shape);
    return *out || object == Py_None ? 0 : -1;
}

/* The step of align_part, on checked arguments */
static PyObject *align_part(distiller_object *self, const run_data *data, const ha_align_part *part)
{
    const float *rate = PyArray_DATA(data->lr);
    const float by_group[2] = {[HA_GROUP_MIXER] = rate[0], [HA_GROUP_REST] = rate[1]};
    npy_intp layers = self->student->model->config.num_layers;
    double norm = 0.0;
    PyArrayObject *losses = (PyArrayObject *)PyArray_ZEROS(1, &layers, NPY_FLOAT64, 0);
    if (!losses)
        return NULL;
    ha_core_call core = ha_core_begin(self->student, NULL);
    if (core.status == HA_OK)
        core.status = ha_trainer_align(self->trainer, &data->windows.view, part, by_group, &self->student->arena,
                                       &ha_signals, PyArray_DATA(losses), &norm);
    if (ha_core_end(&core) == HA_OK)
        return (PyObject *)losses;
    Py_DECREF(losses);
    ha_raise(core.status);
    return NULL;
}

PyObject *ha_distiller_align_part(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "lr", "first", "stop", "incoming", "outgoing", "segments", NULL};
    run_arguments given = {.teacher_hidden = Py_None, .weights = Py_None, .labels = Py_None, .segments = Py_None};
    run_data data = {0};
    PyObject *in_given, *out_given, *result = NULL;
    PyArrayObject *in = NULL, *out = NULL;
    const ha_config *config = &self->student->model->config;
    npy_intp rows = 0;
    int first, stop;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOiiOO|O:align_part", names, &given.tokens, &given.windows,
                                     &given.lr, &first, &stop, &in_given, &out_given, &given.segments))
        return NULL;
    if (self->stage != HA_STAGE_ALIGN)
        PyErr_SetString(PyExc_ValueError, "align_part is for stage align");
    else if (first < 0 || first >= stop || stop > config->num_layers || (first > 0) != (in_given != Py_None))
        PyErr_Format(PyExc_ValueError,
                     "layers %d to %d, allowed are 0 to %d, with incoming rows for all but those from layer 0 on",
                     first, stop, config->num_layers);
    else if (parse_step(self, &given, &data) == 0) {
        for (int i = 0; i < data.windows.view.count; i++)
            rows += (npy_intp)(data.windows.view.window[2 * i + 1] - data.windows.view.window[2 * i]);
        if (stream_of(in_given, "incoming", rows, config->hidden_size, &in) == 0 &&
            stream_of(out_given, "outgoing", rows, config->hidden_size, &out) == 0) {
            const ha_align_part part = {first, stop, in ? PyArray_DATA(in) : NULL, out ? PyArray_DATA(out) : NULL};
            result = align_part(self, &data, &part);
        }
    }
    Py_XDECREF(in);
    Py_XDECREF(out);
    ha_run_data_clear(&data);
    return result;
}
