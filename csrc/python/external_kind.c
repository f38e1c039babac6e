/* What a Python mixer declares: parameters, the shape of its state, its cost; and its registration. */
#include "python/external_mixer.h"

#include <ctype.h>

PyObject *ha_external_config(const ha_config *c)
{
    return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:d}", "hidden_size", c->hidden_size, "num_layers",
                         c->num_layers, "num_heads", c->num_heads, "num_kv_heads", c->num_kv_heads, "head_dim",
                         c->head_dim, "intermediate_size", c->intermediate_size, "vocab_size", c->vocab_size,
                         "norm_eps", (double)c->norm_eps);
}

/* A shape as a new tuple of 1 to HA_MAX_DIMS positive ints; NULL with an error. */
static PyObject *shape_tuple(const ha_external_kind *kind, const char *what, PyObject *value)
{
    PyObject *shape = PyLong_Check(value) ? PyTuple_Pack(1, value) : PySequence_Tuple(value);
    int good = shape && PyTuple_GET_SIZE(shape) >= 1 && PyTuple_GET_SIZE(shape) <= HA_MAX_DIMS;
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(shape); i++) {
        long n = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
        good = n >= 1 && n <= 1 << 28;
    }
    if (good)
        return shape;
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "mixer %s: %s has shape %R, allowed are 1 to %d positive whole numbers", kind->name,
                 what, value, HA_MAX_DIMS);
    Py_XDECREF(shape);
    return NULL;
}

static int good_name(const char *name, size_t most)
{
    size_t n = name ? strlen(name) : 0;
    int good = n > 0 && n <= most && isalpha((unsigned char)name[0]);
    for (size_t i = 0; good && i < n; i++)
        good = isalnum((unsigned char)name[i]) || name[i] == '_' || (name[i] == '.' && most > HA_MAX_LEAF - 1);
    return good;
}

static PyObject *declare_parameters(const ha_external_kind *kind, PyObject *config)
{
    PyObject *given = PyObject_CallOneArg(kind->parameters, config), *found = PyDict_New(), *name, *value;
    Py_ssize_t at = 0;
    int ok = given && found;
    if (ok && (!PyDict_Check(given) || PyDict_GET_SIZE(given) < 1 || PyDict_GET_SIZE(given) > HA_MAX_SLOTS)) {
        PyErr_Format(PyExc_ValueError, "mixer %s: parameters gave %R, allowed is a dict of 1 to %d names to shapes",
                     kind->name, given, HA_MAX_SLOTS);
        ok = 0;
    }
    while (ok && PyDict_Next(given, &at, &name, &value)) {
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        PyObject *shape = NULL;
        if (good_name(text, HA_MAX_LEAF))
            shape = shape_tuple(kind, text, value);
        else
            PyErr_Format(PyExc_ValueError,
                         "mixer %s: a parameter is called %R, allowed are up to %d letters, digits, _ and .",
                         kind->name, name, HA_MAX_LEAF);
        ok = shape && PyDict_SetItem(found, name, shape) == 0;
        Py_XDECREF(shape);
    }
    Py_XDECREF(given);
    if (!ok)
        Py_CLEAR(found);
    return found;
}

PyObject *ha_external_declared(const ha_external_kind *kind, const ha_config *c)
{
    const int numbers[] = {c->hidden_size, c->num_layers,        c->num_heads,  c->num_kv_heads,
                           c->head_dim,    c->intermediate_size, c->vocab_size, (int)(c->norm_eps * 1e9f)};
    PyObject *key = PyBytes_FromStringAndSize((const char *)numbers, sizeof numbers), *config = NULL, *entry = NULL,
             *parameters = NULL, *state = NULL, *shape = NULL;
    PyObject *known = key ? PyDict_GetItemWithError(kind->declared, key) : NULL;
    if (known || PyErr_Occurred() || !(config = ha_external_config(c)))
        goto done;
    parameters = declare_parameters(kind, config);
    state = !parameters ? NULL : kind->state == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(kind->state, config);
    shape = !state || state == Py_None ? Py_XNewRef(state) : shape_tuple(kind, "state", state);
    if (shape && (entry = PyTuple_Pack(2, parameters, shape)) && PyDict_SetItem(kind->declared, key, entry) == 0)
        known = entry;
done:
    Py_XDECREF(key);
    Py_XDECREF(config);
    Py_XDECREF(parameters);
    Py_XDECREF(state);
    Py_XDECREF(shape);
    Py_XDECREF(entry);
    return known;
}

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
        int d[HA_MAX_DIMS] = {0}, ndim = (int)PyTuple_GET_SIZE(shape);
        for (int j = 0; j < ndim; j++)
            d[j] = (int)PyLong_AsLong(PyTuple_GET_ITEM(shape, j));
        status = ha_params_add(params, prefix, PyUnicode_AsUTF8(name), HA_GROUP_MIXER, layer, 1, 0, ndim, d[0], d[1],
                               d[2], &mixer->at[i]);
    }
    PyGILState_Release(gil);
    return status;
}

size_t ha_shape_floats(PyObject *shape)
{
    size_t n = 1;
    for (Py_ssize_t i = 0; shape != Py_None && i < PyTuple_GET_SIZE(shape); i++)
        n *= (size_t)PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return n;
}

/* One float where there is none: a cache exists, and step tells that it cannot be used. */
static ha_state_shape state_shape(const ha_mixer *mixer)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    size_t n = ha_shape_floats(PyTuple_GET_ITEM(ha_external_declared(ha_external_of(mixer), mixer->config), 1));
    PyGILState_Release(gil);
    return (ha_state_shape){.floats = n};
}

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
    while (PyDict_Next(PyTuple_GET_ITEM(ha_external_declared(ha_external_of(mixer), mixer->config), 0), &at, &name,
                       &shape))
        sum += 2.0 * (double)ha_shape_floats(shape);
    PyGILState_Release(gil);
    return sum;
}

int ha_shape_array(PyObject *shape, npy_intp *out)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++)
        out[i] = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return (int)PyTuple_GET_SIZE(shape);
}

PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "forward", "vjp", "step", "parameters", "init", "state", "bidirectional", NULL};
    static const char *const what[] = {"forward", "vjp", "step", "parameters", "init", "state"};
    PyObject *function[6] = {NULL, NULL, NULL, NULL, NULL, Py_None};
    const char *name;
    int bidirectional = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOOOOO|O$p:register_mixer", names, &name, &function[0],
                                     &function[1], &function[2], &function[3], &function[4], &function[5],
                                     &bidirectional))
        return NULL;
    if (!good_name(name, HA_MAX_LEAF - 1))
        return PyErr_Format(PyExc_ValueError, "name is '%s', allowed are up to %d letters, digits and _", name,
                            HA_MAX_LEAF - 1);
    for (int i = 0; i < 6; i++)
        if (!PyCallable_Check(function[i]) && !(function[i] == Py_None && (i == 2 || i == 5)))
            return PyErr_Format(PyExc_TypeError, "%s is a %s, expected a function", what[i],
                                Py_TYPE(function[i])->tp_name);
    if ((function[2] == Py_None) != (function[5] == Py_None))
        return PyErr_Format(PyExc_ValueError, "step and state belong together: give both or neither");
    ha_external_kind *kind =
        PyMem_Calloc(1, sizeof *kind); /* stays for the life of the process, as the registry does */
    if (!kind)
        return PyErr_NoMemory();
    kind->declared = PyDict_New();
    strcpy(kind->name, name);
    kind->kind = (ha_mixer_kind){.name = kind->name,
                                 .summary = "registered from Python",
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
    PyObject **own[6] = {&kind->forward, &kind->vjp, &kind->step, &kind->parameters, &kind->init, &kind->state};
    for (int i = 0; i < 6; i++)
        *own[i] = Py_NewRef(function[i]);
    Py_RETURN_NONE;
}
