/* class Cache: decode state of some sequences.
 *     lengths, dtype, nbytes, bytes_per_token, fork, reserve, reset
 *     repr, layer_bytes, _repr_html_            see cache_view.c
 *     state, load_state                         see cache_state.c
 *     trail, rewind                             see cache_trail.c
 */
#include "python/cache.h"

#include "python/cache_counts.h"
#include "python/cache_object.h"
#include "python/cache_state.h"
#include "python/cache_trail.h"
#include "python/cache_view.h"
#include "python/model_lock.h"
#include "python/raise.h"

enum { MOST_SEQUENCES = 65536 };

/* A new object that takes over `cache`, or frees it and returns NULL. */
static cache_object *new_object(PyTypeObject *type, model_object *owner, ha_cache *cache)
{
    cache_object *self = (cache_object *)type->tp_alloc(type, 0);
    if (!self) {
        ha_cache_free(cache);
        return NULL;
    }
    self->owner = (model_object *)Py_NewRef(owner);
    self->cache = cache;
    return self;
}

/* Cache(model, batch=1, dtype="f32") */
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

/* int64 [batch] */
static PyObject *get_lengths(cache_object *self, void *closure)
{
    (void)closure;
    return ha_cache_lengths(self);
}

/* "f32" or "f16", of keys and values */
static PyObject *get_dtype(cache_object *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(ha_cache_dtype(self->cache) == HA_F16 ? "f16" : "f32");
}

/* Bytes held. */
static PyObject *get_nbytes(cache_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(ha_cache_bytes(self->cache));
}

/* Bytes that one more token of a sequence takes. */
static PyObject *get_bytes_per_token(cache_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(ha_cache_bytes_per_token(self->cache));
}

/* Cache.fork(batch=None): a copy, or `batch` copies of the one sequence */
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
    ha_core_call core = ha_core_begin(self->owner, NULL);
    if (core.status == HA_OK)
        core.status = ha_cache_copy(self->cache, (int)batch, &copy);
    const ha_status status = ha_core_end(&core);
    return status == HA_OK ? (PyObject *)new_object(Py_TYPE(self), self->owner, copy) : ha_raise(status);
}

/* Cache.reserve(tokens), int64 [batch] */
static PyObject *reserve(cache_object *self, PyObject *tokens)
{
    int *extra = ha_cache_counts(self, tokens, "tokens", 1);
    if (!extra)
        return NULL;
    ha_core_call core = ha_core_begin(self->owner, NULL);
    if (core.status == HA_OK)
        core.status = ha_cache_reserve(self->cache, extra);
    const ha_status status = ha_core_end(&core);
    PyMem_Free(extra);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

/* Cache.reset() */
static PyObject *reset(cache_object *self, PyObject *unused)
{
    (void)unused;
    ha_core_call core = ha_core_begin(self->owner, NULL);
    if (core.status == HA_OK)
        ha_cache_reset(self->cache);
    const ha_status status = ha_core_end(&core);
    if (status != HA_OK)
        return ha_raise(status);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fork", (PyCFunction)(void (*)(void))fork_cache, METH_VARARGS | METH_KEYWORDS,
     "fork($self, batch=None)\n--\n\nAn independent copy: continue one prefix in several ways. A cache of one sequence "
     "gives `batch` copies of it."},
    {"reserve", (PyCFunction)reserve, METH_O,
     "reserve($self, tokens, /)\n--\n\nMakes room for tokens [batch] more of each sequence, so that none of them is "
     "moved later."},
    {"layer_bytes", (PyCFunction)ha_cache_layers, METH_NOARGS,
     "layer_bytes($self)\n--\n\nBytes held, by layer: a dict {mixer kind: bytes} for each."},
    {"_repr_html_", (PyCFunction)ha_cache_html, METH_NOARGS,
     "_repr_html_($self)\n--\n\nSmall HTML for a notebook: tokens, and bytes by layer and kind."},
    {"reset", (PyCFunction)reset, METH_NOARGS, "reset($self)\n--\n\nBack to empty sequences; memory is kept."},
    {"state", (PyCFunction)ha_cache_state_method, METH_NOARGS,
     "state($self)\n--\n\nEverything in it as a dict of arrays, to save."},
    {"load_state", (PyCFunction)ha_cache_load_state, METH_O,
     "load_state($self, state, /)\n--\n\nRestores what state() gave, of a cache of the same shape; on an error the "
     "cache is empty."},
    {"trail", (PyCFunction)ha_cache_trail_method, METH_O,
     "trail($self, tokens, /)\n--\n\nFrom now on keeps what it takes to take back the last `tokens` tokens; 0: no "
     "more. "
     "Linear layers then hold\nthat many more states."},
    {"rewind", (PyCFunction)ha_cache_rewind_method, METH_O,
     "rewind($self, tokens, /)\n--\n\nTakes back the last tokens [batch] of each sequence, as if they had not been "
     "fed. "
     "Allowed are those fed since\ntrail() in passes of at most as many tokens, the last so many of them."},
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
    {Py_tp_repr, ha_cache_repr},
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
