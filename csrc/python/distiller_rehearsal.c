/* Distiller.rehearse and reserve: what a run would need of the arena, and room for it. */
#include "python/distiller_rehearsal.h"

#include "python/arrays.h"
#include "python/distiller_data.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/stop.h"

/* (peak, kept) of checked windows */
static PyObject *rehearse(distiller_object *self, const run_data *data)
{
    npy_intp layers = self->student->model->config.num_layers;
    const ha_train_data given = ha_run_data_of_step(self, data, 0);
    PyArrayObject *kept = (PyArrayObject *)PyArray_ZEROS(1, &layers, NPY_UINTP, 0);
    size_t peak = 0;
    if (!kept)
        return NULL;
    ha_core_call core = ha_core_begin(self->student, self->teacher);
    if (core.status == HA_OK)
        core.status = ha_trainer_rehearse(self->trainer, &data->windows.view, &given, &self->student->arena,
                                          &ha_signals, &peak, PyArray_DATA(kept));
    if (ha_core_end(&core) == HA_OK)
        return Py_BuildValue("nN", (Py_ssize_t)peak, kept);
    Py_DECREF(kept);
    ha_raise(core.status);
    return NULL;
}

PyObject *ha_distiller_rehearse(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "teacher_hidden", "weights", "segments", NULL};
    run_arguments given = {.teacher_hidden = Py_None,
                           .callback = Py_None,
                           .weights = Py_None,
                           .labels = Py_None,
                           .segments = Py_None,
                           .stop = 1};
    run_data data = {0};
    PyObject *result = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOO:rehearse", names, &given.tokens, &given.windows,
                                     &given.teacher_hidden, &given.weights, &given.segments))
        return NULL;
    if (ha_run_data_parse(self, &given, &data) == 0) {
        if (PyArray_DIM(data.windows.windows, 0) == 1)
            result = rehearse(self, &data);
        else
            PyErr_SetString(PyExc_ValueError, "windows must have shape [1, batch, 2]: those of one micro-batch");
    }
    ha_run_data_clear(&data);
    return result;
}

PyObject *ha_distiller_reserve(distiller_object *self, PyObject *bytes)
{
    const Py_ssize_t wanted = PyLong_AsSsize_t(bytes);
    if (wanted < 0) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "bytes is %zd, allowed is 0 or more", wanted);
        return NULL;
    }
    ha_core_call core = ha_core_begin(self->student, NULL);
    if (core.status == HA_OK)
        core.status = ha_arena_reserve(&self->student->arena, (size_t)wanted);
    if (ha_core_end(&core) == HA_OK)
        Py_RETURN_NONE;
    ha_raise(core.status);
    return NULL;
}
