/* class Cache: decode state of some sequences. lengths, nbytes, bytes_per_token, fork, state, load_state, reset. */
#include "mixers/state.h"
#include "python/objects.h"

enum { MOST_SEQUENCES = 65536 };

static cache_object *new_object(PyTypeObject *type, model_object *owner, ha_cache *cache)
{
    cache_object *self = (cache_object *)type->tp_alloc(type, 0);
    if (!self) {
        ha_cache_free(cache);
        return NULL;
    }
    Py_INCREF(owner);
    self->owner = owner;
    self->cache = cache;
    return self;
}

static PyObject *cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"model", "batch", "dtype", NULL};
    PyObject *object;
    int batch = 1;
    const char *dtype = "f32";
    ha_cache *cache;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|is:Cache", names, &object, &batch, &dtype))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *owner = state ? ha_model_arg(state, object, "model") : NULL;
    if (!owner)
        return NULL;
    if (batch < 1 || batch > MOST_SEQUENCES)
        return PyErr_Format(PyExc_ValueError, "batch is %d, allowed are 1 to %d", batch, MOST_SEQUENCES);
    const int half = strcmp(dtype, "f16") == 0;
    if (!half && strcmp(dtype, "f32") != 0)
        return PyErr_Format(PyExc_ValueError, "dtype is %s, allowed are f32, f16", dtype);
    ha_status status = ha_cache_new(owner->model, batch, half ? HA_F16 : HA_F32, &cache);
    return status == HA_OK ? (PyObject *)new_object(type, owner, cache) : ha_raise(status);
}

static int traverse(cache_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    return 0;
}

static void dealloc(cache_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ha_cache_free(self->cache);
    Py_XDECREF(self->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *get_lengths(cache_object *self, void *closure)
{
    (void)closure;
    npy_intp n = ha_cache_sequences(self->cache);
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INT64);
    for (int s = 0; array && s < n; s++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)array))[s] = ha_cache_length(self->cache, s);
    return array;
}

static PyObject *get_dtype(cache_object *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(ha_cache_dtype(self->cache) == HA_F16 ? "f16" : "f32");
}

static PyObject *get_nbytes(cache_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(ha_cache_bytes(self->cache));
}

static PyObject *get_bytes_per_token(cache_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(ha_cache_bytes_per_token(self->cache));
}

static PyObject *fork_cache(cache_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"batch", NULL};
    PyObject *wanted = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:fork", names, &wanted))
        return NULL;
    const long held = ha_cache_sequences(self->cache), batch = wanted == Py_None ? held : PyLong_AsLong(wanted);
    if (batch == -1 && PyErr_Occurred())
        return NULL;
    if (batch < 1 || batch > MOST_SEQUENCES || (batch != held && held != 1))
        return PyErr_Format(PyExc_ValueError,
                            held == 1 ? "batch is %ld, allowed are 1 to %ld"
                                      : "batch is %ld, allowed is %ld, as it holds",
                            batch, held == 1 ? (long)MOST_SEQUENCES : held);
    ha_cache *copy = NULL;
    ha_status status;
    HA_BEGIN_CORE(status, self->owner, NULL)
    status = ha_cache_copy(self->cache, (int)batch, &copy);
    HA_END_CORE(self->owner, NULL)
    return status == HA_OK ? (PyObject *)new_object(Py_TYPE(self), self->owner, copy) : ha_raise(status);
}

/* int64 [batch] to counts that a cache can hold beside `held`; NULL with an error set */
static int *counts_of(cache_object *self, PyObject *object, const char *name, int beside)
{
    const int n = ha_cache_sequences(self->cache);
    const npy_intp shape[1] = {n};
    PyArrayObject *array = ha_array_arg(object, name, NPY_INT64, 1, shape);
    int *counts = array ? PyMem_Calloc((size_t)n, sizeof *counts) : NULL;
    if (array && !counts)
        PyErr_NoMemory();
    for (int s = 0; counts && s < n; s++) {
        int64_t count = ((int64_t *)PyArray_DATA(array))[s];
        int64_t most = INT32_MAX / 4 - (beside ? ha_cache_length(self->cache, s) : 0);
        if (count < 0 || count > most) {
            PyErr_Format(PyExc_ValueError, "%s[%d] is %lld, allowed are 0 to %lld", name, s, (long long)count,
                         (long long)most);
            PyMem_Free(counts);
            counts = NULL;
        } else
            counts[s] = (int)count;
    }
    Py_XDECREF(array);
    return counts;
}

static PyObject *reserve(cache_object *self, PyObject *tokens)
{
    int *extra = counts_of(self, tokens, "tokens", 1);
    if (!extra)
        return NULL;
    ha_status status;
    HA_BEGIN_CORE(status, self->owner, NULL)
    status = ha_cache_reserve(self->cache, extra);
    HA_END_CORE(self->owner, NULL)
    PyMem_Free(extra);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

static PyObject *reset(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_status status;
    HA_BEGIN_CORE(status, self->owner, NULL)
    ha_cache_reset(self->cache);
    HA_END_CORE(self->owner, NULL)
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

/* Visits every state: `name` is layer.kind.sequence. Stops at the first failure. */
typedef int (*visitor)(const char *name, const ha_state *state, PyObject *dict);

static int visit_states(cache_object *self, visitor visit, PyObject *dict)
{
    const ha_model *m = self->owner->model;
    char name[64];
    for (int l = 0; l < m->config.num_layers; l++)
        for (int linear = 0; linear < 2; linear++) {
            const ha_state *state = ha_cache_state(self->cache, l, linear);
            const ha_mixer *mixer = linear ? &m->layer[l].linear : &m->layer[l].softmax;
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

typedef struct {
    int type;
    npy_intp shape[3], floats[1];
    size_t plane; /* bytes */
} saved_form;

static saved_form form_of(const ha_state *state)
{
    const ha_state_shape *shape = &state->shape;
    int used = ha_state_used(state);
    return (saved_form){state->type == HA_F16 ? NPY_FLOAT16 : NPY_FLOAT32,
                        {shape->planes, used, shape->row},
                        {(npy_intp)shape->floats},
                        (size_t)used * (size_t)shape->row * ha_dtype_size(state->type)};
}

static int save_state(const char *name, const ha_state *state, PyObject *dict)
{
    saved_form f = form_of(state);
    if (f.shape[0]) {
        PyObject *rows = PyArray_SimpleNew(3, f.shape, f.type);
        for (int p = 0; rows && f.plane && p < f.shape[0]; p++)
            memcpy((char *)PyArray_DATA((PyArrayObject *)rows) + (size_t)p * f.plane, ha_state_row(state, p, 0),
                   f.plane);
        if (put(dict, name, "rows", rows) < 0)
            return -1;
    }
    if (f.floats[0]) {
        PyObject *data = PyArray_SimpleNew(1, f.floats, NPY_FLOAT32);
        if (data)
            memcpy(PyArray_DATA((PyArrayObject *)data), state->data, (size_t)f.floats[0] * sizeof *state->data);
        return put(dict, name, "data", data);
    }
    return 0;
}

static int load_one(const char *name, const ha_state *state, PyObject *dict)
{
    saved_form f = form_of(state);
    if (f.shape[0]) {
        PyArrayObject *rows = get(dict, name, "rows", f.type, 3, f.shape);
        if (!rows)
            return -1;
        for (int p = 0; f.plane && p < f.shape[0]; p++)
            memcpy(ha_state_row(state, p, 0), (char *)PyArray_DATA(rows) + (size_t)p * f.plane, f.plane);
        Py_DECREF(rows);
    }
    if (f.floats[0]) {
        PyArrayObject *data = get(dict, name, "data", NPY_FLOAT32, 1, f.floats);
        if (!data)
            return -1;
        memcpy(state->data, PyArray_DATA(data), (size_t)f.floats[0] * sizeof *state->data);
        Py_DECREF(data);
    }
    return 0;
}

static PyObject *get_state(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_status status = ha_lock(self->owner, NULL);
    if (status != HA_OK)
        return ha_raise(status);
    PyObject *dict = PyDict_New(), *lengths = dict ? get_lengths(self, NULL) : NULL;
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
    else if (visit_states(self, load_one, saved) < 0)
        ha_cache_reset(self->cache);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *load_state(cache_object *self, PyObject *saved)
{
    if (!PyMapping_Check(saved))
        return PyErr_Format(PyExc_TypeError, "state is a %s, expected what Cache.state() gives",
                            Py_TYPE(saved)->tp_name);
    PyObject *value = PyMapping_GetItemString(saved, "lengths");
    if (!value)
        return PyErr_Format(PyExc_ValueError, "the saved state has no lengths");
    int *lengths = counts_of(self, value, "lengths", 0);
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

static PyMethodDef methods[] = {
    {"fork", (PyCFunction)(void (*)(void))fork_cache, METH_VARARGS | METH_KEYWORDS,
     "fork($self, batch=None)\n--\n\nAn independent copy: continue one prefix in several ways. A cache of one sequence "
     "gives `batch` copies of it."},
    {"reserve", (PyCFunction)reserve, METH_O,
     "reserve($self, tokens, /)\n--\n\nMakes room for tokens [batch] more of each sequence, so that none of them is "
     "moved later."},
    {"reset", (PyCFunction)reset, METH_NOARGS, "reset($self)\n--\n\nBack to empty sequences; memory is kept."},
    {"state", (PyCFunction)get_state, METH_NOARGS,
     "state($self)\n--\n\nEverything in it as a dict of arrays, to save."},
    {"load_state", (PyCFunction)load_state, METH_O,
     "load_state($self, state, /)\n--\n\nRestores what state() gave, of a cache of the same shape; on an error the "
     "cache is empty."},
    {0},
};

static PyGetSetDef getset[] = {
    {"lengths", (getter)get_lengths, NULL, "int64 [batch]: tokens that each sequence has seen.", NULL},
    {"dtype", (getter)get_dtype, NULL, "How keys and values are stored: 'f32' or 'f16'.", NULL},
    {"nbytes", (getter)get_nbytes, NULL, "Bytes of memory held, room for growth included.", NULL},
    {"bytes_per_token", (getter)get_bytes_per_token, NULL,
     "Bytes that one more token adds to a sequence; linear layers add none.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc,
     "Cache(model, batch=1, dtype='f32')\n--\n\nDecode state of `batch` sequences: keys and values for softmax "
     "layers, a state of fixed size for\n"
     "linear ones. dtype 'f16' stores keys and values in half the bytes. The model's gates at this moment "
     "decide which mixers run."},
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec type_spec = {"hybridattn._core.Cache", sizeof(cache_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, type_slots};

int ha_add_cache(PyObject *module, module_state *state)
{
    state->cache = (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
    return state->cache ? PyModule_AddType(module, state->cache) : -1;
}
