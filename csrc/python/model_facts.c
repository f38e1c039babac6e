/* What a Model is made of: Model.parameters, Model.parameter_info and Model.cost. */
#include "python/model_facts.h"

#include "mixers/state.h"
#include "python/model_store.h"

PyObject *ha_model_parameters(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"stored", NULL};
    int stored = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:parameters", names, &stored) || !ha_model_ready(self))
        return NULL;
    module_state *state = ha_state_of(Py_TYPE(self));
    PyObject *result = state ? PyDict_New() : NULL;
    for (int i = 0; result && i < self->model->params.count; i++) {
        if (!stored && ha_params_dtype(&self->model->params, i) != HA_F32)
            continue;
        PyObject *view = ha_model_parameter(self, state, i);
        if (!view || PyDict_SetItemString(result, self->model->params.list[i].name, view) < 0)
            Py_CLEAR(result);
        Py_XDECREF(view);
    }
    return result;
}

PyObject *ha_model_parameter_info(model_object *self, PyObject *unused)
{
    static const char *const group[] = {
        [HA_GROUP_REST] = "rest", [HA_GROUP_MIXER] = "mixer", [HA_GROUP_FIXED] = "fixed"};
    (void)unused;
    if (!ha_model_ready(self))
        return NULL;
    PyObject *result = PyList_New(0);
    for (int i = 0; result && i < self->model->params.count; i++) {
        const ha_param *param = &self->model->params.list[i];
        npy_intp lengths[HA_MAX_DIMS];
        for (int j = 0; j < param->ndim; j++)
            lengths[j] = param->shape[j];
        PyObject *shape = PyArray_IntTupleFromIntp(param->ndim, lengths);
        PyObject *entry = shape ? Py_BuildValue("(sNs)", param->name, shape, group[param->group]) : NULL;
        if (!entry || PyList_Append(result, entry) < 0)
            Py_CLEAR(result);
        Py_XDECREF(entry);
    }
    return result;
}

/* dict[kind] = the cost of a mixer at that context; nothing where a layer has none. -1 with an
 * exception. */
static int add_cost(PyObject *dict, const ha_mixer *mixer, double context)
{
    if (!mixer->kind)
        return 0;
    const ha_state_shape shape = mixer->kind->state(mixer);
    const size_t token = ha_state_rows_bytes(&shape, HA_F32, 1),
                 fixed = (size_t)shape.tokens * token + shape.floats * sizeof(float),
                 growing = ha_state_grows(&shape) ? token : 0;
    PyObject *entry = Py_BuildValue("{s:d,s:n,s:n}", "flops_per_token", mixer->kind->flops(mixer, context),
                                    "state_bytes", (Py_ssize_t)fixed, "bytes_per_token", (Py_ssize_t)growing);
    int status = entry ? PyDict_SetItemString(dict, mixer->kind->name, entry) : -1;
    Py_XDECREF(entry);
    return status;
}

PyObject *ha_model_cost(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"context", NULL};
    double context = 1024.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|d:cost", names, &context) || !ha_model_ready(self))
        return NULL;
    PyObject *result = PyList_New(0);
    for (int l = 0; result && l < self->model->config.num_layers; l++) {
        PyObject *dict = PyDict_New();
        if (!dict || add_cost(dict, &self->model->layer[l].softmax, context) < 0 ||
            add_cost(dict, &self->model->layer[l].linear, context) < 0 || PyList_Append(result, dict) < 0)
            Py_CLEAR(result);
        Py_XDECREF(dict);
    }
    return result;
}
