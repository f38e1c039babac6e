/* Distiller.run: the steps of a stage over windows of a token stream. */
#include "python/stop.h"
#include "python/distiller_run.h"

#include "python/arrays.h"
#include "python/distiller_data.h"
#include "python/model_lock.h"
#include "python/raise.h"

/* callback(step, mean of the losses [count], norm of the gradient, tokens so far); -1 with its
 * exception */
static int report(PyObject *callback, int64_t step, const double *loss, int count, double norm, int64_t tokens)
{
    double sum = 0.0;
    int terms = 0;
    for (int i = 0; i < count; i++)
        if (loss[i] != 0.0) { /* layers that are not trained report 0 */
            sum += loss[i];
            terms++;
        }
    PyObject *result =
        PyObject_CallFunction(callback, "LddL", (long long)step, terms ? sum / terms : 0.0, norm, (long long)tokens);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* One step: its losses [columns] and the norm of its gradient; -1 with an exception, and nothing
 * has changed. */
static int take_step(distiller_object *self, const run_data *data, int64_t step, double *loss, double *norm)
{
    const ha_windows *all = &data->windows.view;
    const npy_intp batch = PyArray_DIM(data->windows.windows, 1);
    const ha_windows part = {all->token, all->window + step * batch * 2, (int)batch, all->vocabulary, all->segment};
    const ha_train_data given = ha_run_data_of_step(self, data, step);
    const float *rate = (const float *)PyArray_DATA(data->lr) + 2 * step;
    const float by_group[2] = {[HA_GROUP_MIXER] = rate[0], [HA_GROUP_REST] = rate[1]};
    ha_core_call core = ha_core_begin(self->student, self->teacher);
    if (core.status == HA_OK)
        core.status =
            ha_trainer_step(self->trainer, &part, by_group, &given, &self->student->arena, &ha_signals, loss, norm);
    if (ha_core_end(&core) == HA_OK)
        return 0;
    ha_raise(core.status);
    return -1;
}

/* Steps start .. stop - 1 of windows [steps, batch, 2]; losses [stop - start, columns] */
static int take_steps(distiller_object *self, const run_arguments *given, const run_data *data, PyArrayObject *losses)
{
    const npy_intp batch = PyArray_DIM(data->windows.windows, 1), columns = PyArray_DIM(losses, 1);
    const int64_t *window = data->windows.view.window;
    int64_t tokens = 0;
    for (int64_t step = given->start; step < given->stop; step++) {
        double *loss = (double *)PyArray_DATA(losses) + (step - given->start) * columns, norm = 0.0;
        memset(loss, 0, (size_t)columns * sizeof *loss);
        if (take_step(self, data, step, loss, &norm) < 0)
            return -1;
        for (int64_t i = step * batch; i < (step + 1) * batch; i++)
            tokens += window[2 * i + 1] - window[2 * i];
        if (given->callback != Py_None && report(given->callback, step, loss, (int)columns, norm, tokens) < 0)
            return -1;
        if (ha_check_stop() < 0)
            return -1;
    }
    return 0;
}

PyObject *ha_distiller_run(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens",   "windows", "lr",     "start",    "stop",   "teacher_hidden",
                            "callback", "weights", "labels", "segments", "losses", NULL};
    run_arguments given = {.teacher_hidden = Py_None,
                           .callback = Py_None,
                           .weights = Py_None,
                           .labels = Py_None,
                           .segments = Py_None,
                           .losses = Py_None};
    run_data data;
    PyArrayObject *losses = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOLL|OOOOOO:run", names, &given.tokens, &given.windows, &given.lr,
                                     &given.start, &given.stop, &given.teacher_hidden, &given.callback, &given.weights,
                                     &given.labels, &given.segments, &given.losses))
        return NULL;
    if (ha_run_data_parse(self, &given, &data) == 0) {
        npy_intp shape[2] = {(npy_intp)(given.stop - given.start),
                             self->stage == HA_STAGE_ALIGN ? self->student->model->config.num_layers : 1};
        losses = given.losses == Py_None ? (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT64)
                                         : ha_array_out(given.losses, "losses", NPY_FLOAT64, 2, shape);
    }
    if (losses && take_steps(self, &given, &data, losses) < 0)
        Py_CLEAR(losses);
    ha_run_data_clear(&data);
    return (PyObject *)losses;
}
