/* Model.set_branch: which part of a window_linear mixer runs. */
#include "python/model_branch.h"

#include "python/model_lock.h"
#include "python/raise.h"

static const char *const name_of[HA_BRANCH_COUNT] = {
    [HA_BRANCH_BOTH] = "both", [HA_BRANCH_SOFTMAX] = "softmax", [HA_BRANCH_LINEAR] = "linear"};

static int has_branches(const ha_model *m, int layer)
{
    const ha_mixer_kind *kind = m->layer[layer].linear.kind;
    return kind && kind == ha_mixer_find("window_linear");
}

PyObject *ha_model_set_branch(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"branch", "layer", NULL};
    const char *name;
    PyObject *given = Py_None;
    int branch = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|O:set_branch", names, &name, &given) || !ha_model_ready(self))
        return NULL;
    while (branch < HA_BRANCH_COUNT && strcmp(name, name_of[branch]))
        branch++;
    if (branch == HA_BRANCH_COUNT)
        return PyErr_Format(PyExc_ValueError, "branch is '%s', allowed are 'both', 'softmax', 'linear'", name);
    const long layers = self->model->config.num_layers, one = given == Py_None ? 0 : PyLong_AsLong(given);
    if (PyErr_Occurred())
        return NULL;
    if (given != Py_None && (one < 0 || one >= layers || !has_branches(self->model, (int)one)))
        return PyErr_Format(PyExc_ValueError, "layer is %R, allowed are layers with window_linear", given);
    const long first = one, stop = given == Py_None ? layers : one + 1;
    ha_core_call core = ha_core_begin(self, NULL);
    if (core.status == HA_OK)
        for (long l = first; l < stop; l++)
            if (has_branches(self->model, (int)l))
                self->model->layer[l].linear.branch = (ha_branch)branch;
    if (ha_core_end(&core) != HA_OK)
        return ha_raise(core.status);
    Py_RETURN_NONE;
}
