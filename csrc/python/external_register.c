/* register_mixer: a mixer kind of Python functions joins the registry. */
#include "python/external_register.h"

#include "python/external_declared.h"
#include "python/external_init.h"
#include "python/external_mixer.h"
#include "python/raise.h"

/* ha_mixer_kind.declare: adds the parameters that the kind declares for this config. */
static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *facts = ha_external_declared(ha_external_of(mixer), mixer->config), *name, *shape;
    ha_status status = facts ? HA_OK : HA_INTERRUPTED;
    Py_ssize_t at = 0;
    mixer->projections_align = 1;
    for (int i = 0; i < HA_MAX_SLOTS; i++)
        mixer->at[i] = HA_NONE;
    for (int i = 0; status == HA_OK && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        ha_param declared = {
            .group = HA_GROUP_MIXER, .layer = layer, .aligns = 1, .ndim = (int)PyTuple_GET_SIZE(shape)};
        for (int j = 0; j < declared.ndim; j++)
            declared.shape[j] = (int)PyLong_AsLong(PyTuple_GET_ITEM(shape, j));
        status = ha_params_add(params, prefix, PyUnicode_AsUTF8(name), &declared, &mixer->at[i]);
    }
    PyGILState_Release(gil);
    return status;
}

/* One float where there is none: a cache exists, and step tells that it cannot be used. */
static ha_state_shape state_shape(const ha_mixer *mixer)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *facts = ha_external_declared(ha_external_of(mixer), mixer->config);
    const size_t floats = facts ? ha_shape_floats(PyTuple_GET_ITEM(facts, 1)) : 1;
    PyGILState_Release(gil);
    return (ha_state_shape){.floats = floats};
}

/* Nothing is saved: the backward pass makes the forward pass again. */
static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    (void)mixer, (void)batch;
    return 0;
}

/* Two FLOP a weight and token: what matrices cost, and a guess for the rest. */
static double flops(const ha_mixer *mixer, double context)
{
    double sum = 0.0;
    PyObject *name, *shape;
    Py_ssize_t at = 0;
    (void)context;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *facts = ha_external_declared(ha_external_of(mixer), mixer->config);
    while (facts && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape))
        sum += 2.0 * (double)ha_shape_floats(shape);
    PyGILState_Release(gil);
    return sum;
}

PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name",  "forward",       "vjp",     "step",   "parameters", "init",
                            "state", "bidirectional", "summary", "phrase", "align_lr",   NULL};
    static const char *const what[] = {"forward", "vjp", "step", "parameters", "init", "state"};
    PyObject *function[6] = {NULL, NULL, NULL, NULL, NULL, Py_None};
    PyObject *summary = NULL, *phrase = NULL, *rate = NULL;
    const char *name, *summary_text = "registered from Python", *phrase_text = NULL;
    int bidirectional = 0;
    double align_rate = 1e-3;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOOOOO|O$pUUO:register_mixer", names, &name, &function[0],
                                     &function[1], &function[2], &function[3], &function[4], &function[5],
                                     &bidirectional, &summary, &phrase, &rate))
        return NULL;
    if (!ha_external_good_name(name, HA_MAX_LEAF - 1))
        return PyErr_Format(PyExc_ValueError, "name is '%s', allowed are up to %d letters, digits and _", name,
                            HA_MAX_LEAF - 1);
    for (int i = 0; i < 6; i++)
        if (!PyCallable_Check(function[i]) && !(function[i] == Py_None && (i == 2 || i == 5)))
            return PyErr_Format(PyExc_TypeError, "%s is a %s, expected a function", what[i],
                                Py_TYPE(function[i])->tp_name);
    if ((function[2] == Py_None) != (function[5] == Py_None))
        return PyErr_Format(PyExc_ValueError, "step and state belong together: give both or neither");
    if (rate && (align_rate = PyFloat_AsDouble(rate)) == -1.0 && PyErr_Occurred())
        return NULL;
    if (!(align_rate > 0.0 && align_rate <= 1.0))
        return PyErr_Format(PyExc_ValueError, "align_lr is %R, allowed are numbers above 0, up to 1", rate);
    if ((summary && !(summary_text = PyUnicode_AsUTF8(summary))) ||
        (phrase && !(phrase_text = PyUnicode_AsUTF8(phrase))))
        return NULL;
    if (strpbrk(summary_text, "\r\n"))
        return PyErr_Format(PyExc_ValueError, "summary has several lines, allowed is one");
    ha_external_kind *kind =
        PyMem_Calloc(1, sizeof *kind); /* stays for the life of the process, as the registry does */
    if (!kind)
        return PyErr_NoMemory();
    kind->declared = PyDict_New();
    strcpy(kind->name, name);
    kind->kind = (ha_mixer_kind){.name = kind->name,
                                 .summary = summary_text,
                                 .phrase = phrase_text,
                                 .align_rate = align_rate,
                                 .declare = declare,
                                 .init_from_softmax = ha_external_init,
                                 .saved = saved_floats,
                                 .state = state_shape,
                                 .forward = ha_external_forward,
                                 .backward = ha_external_backward,
                                 .flops = flops,
                                 .masks = bidirectional ? HA_BIDIRECTIONAL_ONLY : HA_CAUSAL_ONLY};
    ha_status status = kind->declared ? ha_mixer_register(&kind->kind) : HA_NO_MEMORY;
    if (status != HA_OK) {
        Py_XDECREF(kind->declared);
        PyMem_Free(kind);
        return ha_raise(status);
    }
    kind->summary = Py_XNewRef(summary);
    kind->phrase = Py_XNewRef(phrase);
    PyObject **own[6] = {&kind->forward, &kind->vjp, &kind->step, &kind->parameters, &kind->init, &kind->state};
    for (int i = 0; i < 6; i++)
        *own[i] = Py_NewRef(function[i]);
    Py_RETURN_NONE;
}
