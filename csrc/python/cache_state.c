/* Cache.state and Cache.load_state: everything in a cache as a dict of arrays, and back. */
#include "python/cache_state.h"

#include "mixers/state.h"
#include "python/arrays.h"
#include "python/cache_counts.h"
#include "python/model_lock.h"
#include "python/raise.h"

/* What is done with the state called layer.kind.sequence; -1 with an exception. */
typedef int (*visitor)(const char *name, const ha_state *state, PyObject *dict);

/* Visits every state. Stops at the first failure, with -1. */
static int visit_states(cache_object *self, visitor visit, PyObject *dict)
{
    const ha_model *model = self->owner->model;
    char name[64];
    for (int l = 0; l < model->config.num_layers; l++)
        for (int linear = 0; linear < 2; linear++) {
            const ha_state *state = ha_cache_state(self->cache, l, linear);
            const ha_mixer *mixer = linear ? &model->layer[l].linear : &model->layer[l].softmax;
            for (int s = 0; state && s < ha_cache_sequences(self->cache); s++) {
                PyOS_snprintf(name, sizeof name, "%d.%s.%d", l, mixer->kind->name, s);
                if (visit(name, &state[s], dict) < 0)
                    return -1;
            }
        }
    return 0;
}

/* dict[name.part] = array, whose reference is taken over */
static int put(PyObject *dict, const char *name, const char *part, PyObject *array)
{
    char key[80];
    PyOS_snprintf(key, sizeof key, "%s.%s", name, part);
    int status = array ? PyDict_SetItemString(dict, key, array) : -1;
    Py_XDECREF(array);
    return status;
}

/* The array dict[name.part] of that type and shape; a new reference, NULL with an exception. */
static PyArrayObject *get(PyObject *dict, const char *name, const char *part, int type, int ndim, const npy_intp *shape)
{
    char key[80];
    PyOS_snprintf(key, sizeof key, "%s.%s", name, part);
    PyObject *value = PyMapping_GetItemString(dict, key);
    if (!value) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "the saved state has no %s: it is of another model", key);
        return NULL;
    }
    PyArrayObject *array = ha_array_arg(value, key, type, ndim, shape);
    Py_DECREF(value);
    return array;
}

/* A state as arrays: rows [planes, used, row] of `type`, and data [floats] of float32. */
typedef struct {
    int type;
    npy_intp shape[3], floats[1];
    size_t plane; /* bytes of one plane's rows */
} saved_form;

/* The arrays that a state makes. */
static saved_form form_of(const ha_state *state)
{
    const ha_state_shape *shape = &state->shape;
    int used = ha_state_used(state);
    return (saved_form){state->type == HA_F16 ? NPY_FLOAT16 : NPY_FLOAT32,
                        {shape->planes, used, shape->row},
                        {(npy_intp)shape->floats},
                        (size_t)used * (size_t)shape->row * ha_dtype_size(state->type)};
}

/* dict[name.rows] and dict[name.data] = copies of a state */
static int save_state(const char *name, const ha_state *state, PyObject *dict)
{
    saved_form form = form_of(state);
    if (form.shape[0]) {
        PyObject *rows = PyArray_SimpleNew(3, form.shape, form.type);
        for (int p = 0; rows && form.plane && p < form.shape[0]; p++)
            memcpy((char *)PyArray_DATA((PyArrayObject *)rows) + (size_t)p * form.plane, ha_state_row(state, p, 0),
                   form.plane);
        if (put(dict, name, "rows", rows) < 0)
            return -1;
    }
    if (form.floats[0]) {
        PyObject *data = PyArray_SimpleNew(1, form.floats, NPY_FLOAT32);
        if (data)
            memcpy(PyArray_DATA((PyArrayObject *)data), state->data, (size_t)form.floats[0] * sizeof *state->data);
        return put(dict, name, "data", data);
    }
    return 0;
}

/* The state becomes dict[name.rows] and dict[name.data]. */
static int load_state(const char *name, const ha_state *state, PyObject *dict)
{
    saved_form form = form_of(state);
    if (form.shape[0]) {
        PyArrayObject *rows = get(dict, name, "rows", form.type, 3, form.shape);
        if (!rows)
            return -1;
        for (int p = 0; form.plane && p < form.shape[0]; p++)
            memcpy(ha_state_row(state, p, 0), (char *)PyArray_DATA(rows) + (size_t)p * form.plane, form.plane);
        Py_DECREF(rows);
    }
    if (form.floats[0]) {
        PyArrayObject *data = get(dict, name, "data", NPY_FLOAT32, 1, form.floats);
        if (!data)
            return -1;
        memcpy(state->data, PyArray_DATA(data), (size_t)form.floats[0] * sizeof *state->data);
        Py_DECREF(data);
    }
    return 0;
}

PyObject *ha_cache_state_method(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_status status = ha_lock(self->owner, NULL);
    if (status != HA_OK)
        return ha_raise(status);
    PyObject *dict = PyDict_New(), *lengths = dict ? ha_cache_lengths(self) : NULL;
    if (!lengths || PyDict_SetItemString(dict, "lengths", lengths) < 0 || visit_states(self, save_state, dict) < 0)
        Py_CLEAR(dict);
    ha_unlock(self->owner, NULL);
    Py_XDECREF(lengths);
    return dict;
}

/* With the model's lock held; on an error the cache is empty. */
static int load(cache_object *self, PyObject *saved, const int *lengths)
{
    ha_cache_reset(self->cache);
    ha_status status = ha_cache_reserve(self->cache, lengths);
    for (int s = 0; s < ha_cache_sequences(self->cache) && status == HA_OK; s++)
        ha_cache_set_length(self->cache, s, lengths[s]);
    if (status != HA_OK)
        ha_raise(status);
    else if (visit_states(self, load_state, saved) < 0)
        ha_cache_reset(self->cache);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *ha_cache_load_state(cache_object *self, PyObject *saved)
{
    if (!PyMapping_Check(saved))
        return PyErr_Format(PyExc_TypeError, "state is a %s, expected what Cache.state() gives",
                            Py_TYPE(saved)->tp_name);
    PyObject *value = PyMapping_GetItemString(saved, "lengths");
    if (!value)
        return PyErr_Format(PyExc_ValueError, "the saved state has no lengths");
    int *lengths = ha_cache_counts(self, value, "lengths", 0);
    Py_DECREF(value);
    if (!lengths)
        return NULL;
    ha_status lock = ha_lock(self->owner, NULL);
    int status = -1;
    if (lock == HA_OK) {
        status = load(self, saved, lengths);
        ha_unlock(self->owner, NULL);
    }
    PyMem_Free(lengths);
    if (lock != HA_OK)
        return ha_raise(lock);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}
