/* class Cache: decode state of some sequences. lengths, nbytes, bytes_per_token, fork, state, load_state, reset. */
#include "python/objects.h"

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
    static char *names[] = {"model", "batch", NULL};
    PyObject *object;
    int batch = 1;
    ha_cache *cache;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|i:Cache", names, &object, &batch))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *owner = state ? ha_model_arg(state, object, "model") : NULL;
    if (!owner)
        return NULL;
    if (batch < 1 || batch > 65536)
        return PyErr_Format(PyExc_ValueError, "batch is %d, allowed are 1 to 65536", batch);
    ha_status status = ha_cache_new(owner->model, batch, &cache);
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

static PyObject *fork_cache(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_cache *copy = NULL;
    ha_status status;
    HA_BEGIN_CORE(status, self->owner, NULL)
    status = ha_cache_copy(self->cache, &copy);
    HA_END_CORE(self->owner, NULL)
    return status == HA_OK ? (PyObject *)new_object(Py_TYPE(self), self->owner, copy) : ha_raise(status);
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

/* Visits every block in use: name "layer.kind.sequence", its data and the floats in use. Stops at the first failure. */
typedef int (*visitor)(cache_object *self, const char *name, ha_state *state, size_t floats, void *arg);

static int visit_blocks(cache_object *self, visitor visit, void *arg)
{
    const ha_model *m = self->owner->model;
    char name[64];
    for (int l = 0; l < m->config.num_layers; l++)
        for (int linear = 0; linear < 2; linear++) {
            ha_state *state = ha_cache_state(self->cache, l, linear);
            const ha_mixer *mixer = linear ? &m->layer[l].linear : &m->layer[l].softmax;
            for (int s = 0; state && s < ha_cache_sequences(self->cache); s++) {
                PyOS_snprintf(name, sizeof name, "%d.%s.%d", l, mixer->kind->name, s);
                if (visit(self, name, &state[s], mixer->kind->state(mixer, ha_cache_length(self->cache, s)), arg) < 0)
                    return -1;
            }
        }
    return 0;
}

static int save_block(cache_object *self, const char *name, ha_state *state, size_t floats, void *arg)
{
    (void)self;
    npy_intp n = (npy_intp)floats;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_FLOAT32);
    if (!array)
        return -1;
    if (floats)
        memcpy(PyArray_DATA((PyArrayObject *)array), state->data, floats * sizeof(float));
    int status = PyDict_SetItemString(arg, name, array);
    Py_DECREF(array);
    return status;
}

static PyObject *get_state(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_status status = ha_lock(self->owner, NULL);
    if (status != HA_OK)
        return ha_raise(status);
    PyObject *dict = PyDict_New(), *lengths = dict ? get_lengths(self, NULL) : NULL;
    if (!lengths || PyDict_SetItemString(dict, "lengths", lengths) < 0 || visit_blocks(self, save_block, dict) < 0)
        Py_CLEAR(dict);
    ha_unlock(self->owner, NULL);
    Py_XDECREF(lengths);
    return dict;
}

static int load_block(cache_object *self, const char *name, ha_state *state, size_t floats, void *arg)
{
    (void)self;
    PyObject *value = PyMapping_GetItemString(arg, name);
    const npy_intp shape[1] = {(npy_intp)floats};
    if (!value) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "the saved state has no %s: it is of another model", name);
        return -1;
    }
    PyArrayObject *array = ha_array_arg(value, name, NPY_FLOAT32, 1, shape);
    Py_DECREF(value);
    if (!array)
        return -1;
    if (floats)
        memcpy(state->data, PyArray_DATA(array), floats * sizeof(float));
    Py_DECREF(array);
    return 0;
}

static int load(cache_object *self, PyObject *saved, PyArrayObject *lengths)
{
    const int n = ha_cache_sequences(self->cache);
    int *extra = PyMem_Calloc((size_t)n, sizeof *extra);
    if (!extra) {
        PyErr_NoMemory();
        return -1;
    }
    ha_cache_reset(self->cache);
    ha_status status = HA_OK;
    for (int s = 0; s < n && status == HA_OK; s++) {
        int64_t length = ((int64_t *)PyArray_DATA(lengths))[s];
        if (length < 0 || length > INT32_MAX / 4)
            status = ha_fail(HA_BAD_VALUE, "lengths[%d] is %lld, which no cache has", s, (long long)length);
        extra[s] = (int)length;
    }
    if (status == HA_OK)
        status = ha_cache_reserve(self->cache, extra);
    for (int s = 0; s < n && status == HA_OK; s++)
        ha_cache_set_length(self->cache, s, extra[s]);
    PyMem_Free(extra);
    if (status != HA_OK) {
        ha_raise(status);
        return -1;
    }
    if (visit_blocks(self, load_block, saved) < 0) {
        ha_cache_reset(self->cache);
        return -1;
    }
    return 0;
}

static PyObject *load_state(cache_object *self, PyObject *saved)
{
    if (!PyMapping_Check(saved))
        return PyErr_Format(PyExc_TypeError, "state is a %s, expected what Cache.state() gives",
                            Py_TYPE(saved)->tp_name);
    PyObject *value = PyMapping_GetItemString(saved, "lengths");
    const npy_intp shape[1] = {ha_cache_sequences(self->cache)};
    if (!value)
        return PyErr_Format(PyExc_ValueError, "the saved state has no lengths");
    PyArrayObject *lengths = ha_array_arg(value, "lengths", NPY_INT64, 1, shape);
    Py_DECREF(value);
    if (!lengths)
        return NULL;
    ha_status lock = ha_lock(self->owner, NULL);
    int status = -1;
    if (lock == HA_OK) {
        status = load(self, saved, lengths);
        ha_unlock(self->owner, NULL);
    }
    Py_DECREF(lengths);
    if (status < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fork", (PyCFunction)fork_cache, METH_NOARGS,
     "fork($self)\n--\n\nAn independent copy: continue one prefix in several ways."},
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
    {"nbytes", (getter)get_nbytes, NULL, "Bytes of memory held, room for growth included.", NULL},
    {"bytes_per_token", (getter)get_bytes_per_token, NULL,
     "Bytes that one more token adds to a sequence; linear layers add none.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "Cache(model, batch=1)\n--\n\nDecode state of `batch` sequences: keys and values for softmax layers, a "
                "state of fixed size for\n"
                "linear ones. The model's gates at this moment decide which mixers run."},
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
