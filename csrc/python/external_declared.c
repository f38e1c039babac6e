/* What a Python mixer declares: its parameters and the shape of its state. */
#include "python/external_declared.h"

#include <ctype.h>

PyObject *ha_external_config(const ha_config *config)
{
    return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:d}", "hidden_size", config->hidden_size, "num_layers",
                         config->num_layers, "num_heads", config->num_heads, "num_kv_heads", config->num_kv_heads,
                         "head_dim", config->head_dim, "intermediate_size", config->intermediate_size, "vocab_size",
                         config->vocab_size, "norm_eps", (double)config->norm_eps);
}

/* A shape as a new tuple of 1 to HA_MAX_DIMS positive ints; NULL with an error. */
static PyObject *shape_tuple(const ha_external_kind *kind, const char *what, PyObject *value)
{
    PyObject *shape = PyLong_Check(value) ? PyTuple_Pack(1, value) : PySequence_Tuple(value);
    int good = shape && PyTuple_GET_SIZE(shape) >= 1 && PyTuple_GET_SIZE(shape) <= HA_MAX_DIMS;
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(shape); i++) {
        long length = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
        good = length >= 1 && length <= 1 << 28;
    }
    if (good)
        return shape;
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "mixer %s: %s has shape %R, allowed are 1 to %d positive whole numbers", kind->name,
                 what, value, HA_MAX_DIMS);
    Py_XDECREF(shape);
    return NULL;
}

int ha_external_good_name(const char *name, size_t most)
{
    size_t length = name ? strlen(name) : 0;
    int good = length > 0 && length <= most && isalpha((unsigned char)name[0]);
    for (size_t i = 0; good && i < length; i++)
        good = isalnum((unsigned char)name[i]) || name[i] == '_' || (name[i] == '.' && most > HA_MAX_LEAF - 1);
    return good;
}

/* {name: shape} as parameters(config) gives it, checked: a new dict of tuples, NULL with an
 * exception. */
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
        if (ha_external_good_name(text, HA_MAX_LEAF))
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

PyObject *ha_external_declared(const ha_external_kind *kind, const ha_config *config)
{
    const int numbers[] = {
        config->hidden_size, config->num_layers,        config->num_heads,  config->num_kv_heads,
        config->head_dim,    config->intermediate_size, config->vocab_size, (int)(config->norm_eps * 1e9f)};
    PyObject *key = PyBytes_FromStringAndSize((const char *)numbers, sizeof numbers), *given = NULL, *entry = NULL,
             *parameters = NULL, *state = NULL, *shape = NULL;
    PyObject *known = key ? PyDict_GetItemWithError(kind->declared, key) : NULL;
    if (known || PyErr_Occurred() || !(given = ha_external_config(config)))
        goto done;
    parameters = declare_parameters(kind, given);
    state = !parameters ? NULL : kind->state == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(kind->state, given);
    shape = !state || state == Py_None ? Py_XNewRef(state) : shape_tuple(kind, "state", state);
    if (shape && (entry = PyTuple_Pack(2, parameters, shape)) && PyDict_SetItem(kind->declared, key, entry) == 0)
        known = entry;
done:
    Py_XDECREF(key);
    Py_XDECREF(given);
    Py_XDECREF(parameters);
    Py_XDECREF(state);
    Py_XDECREF(shape);
    Py_XDECREF(entry);
    return known;
}

size_t ha_shape_floats(PyObject *shape)
{
    size_t count = 1;
    for (Py_ssize_t i = 0; shape != Py_None && i < PyTuple_GET_SIZE(shape); i++)
        count *= (size_t)PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return count;
}

int ha_shape_array(PyObject *shape, npy_intp *out)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++)
        out[i] = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return (int)PyTuple_GET_SIZE(shape);
}
