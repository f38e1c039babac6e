/* class Model:
 *     __init__(config, layers)
 *     logits, hidden, nll                         forward passes
 *     forward_windows, task_logits                the same on windows of a stream, see windows.c
 *     store, stored                               parameters of other types than float32, see stored.c
 *     parameters, parameter_info, gates, config, layers, num_parameters, cost, init_mixers
 */
#include "mixers/state.h"
#include "python/stored.h"

int ha_model_ready(model_object *self)
{
    if (!self->model)
        PyErr_SetString(PyExc_RuntimeError, "Model.__init__ was not called or failed");
    return self->model != NULL;
}

model_object *ha_model_arg(module_state *state, PyObject *object, const char *name)
{
    if (!PyObject_TypeCheck(object, state->model)) {
        PyErr_Format(PyExc_TypeError, "%s is a %s, expected a Model", name, Py_TYPE(object)->tp_name);
        return NULL;
    }
    model_object *model = (model_object *)object;
    return ha_model_ready(model) ? model : NULL;
}

static _Thread_local model_object *innermost; /* of the models whose locks this thread holds */

/* The first of the locks to take is the one at the lower address, so that two threads never wait for each other. */
static void in_order(model_object **model, model_object **other)
{
    if (*other == *model)
        *other = NULL;
    if (*other && (uintptr_t)*other < (uintptr_t)*model) {
        model_object *first = *other;
        *other = *model;
        *model = first;
    }
}

ha_status ha_lock(model_object *model, model_object *other)
{
    const unsigned long me = PyThread_get_thread_ident();
    in_order(&model, &other);
    model_object *const wanted[] = {model, other};
    for (int i = 0; i < 2; i++)
        if (wanted[i] && atomic_load(&wanted[i]->holder) == me) {
            PyErr_SetString(PyExc_RuntimeError, "the model is in use by a call on this thread");
            return HA_INTERRUPTED;
        }
    for (int i = 0; i < 2; i++) {
        if (!wanted[i])
            continue;
        if (!PyThread_acquire_lock(wanted[i]->lock, NOWAIT_LOCK)) {
            Py_BEGIN_ALLOW_THREADS PyThread_acquire_lock(wanted[i]->lock, WAIT_LOCK);
            Py_END_ALLOW_THREADS
        }
        atomic_store(&wanted[i]->holder, me);
        wanted[i]->outer = innermost;
        innermost = wanted[i];
    }
    return HA_OK;
}

void ha_unlock(model_object *model, model_object *other)
{
    in_order(&model, &other);
    model_object *const held[] = {other, model};
    for (int i = 0; i < 2; i++)
        if (held[i]) {
            innermost = held[i]->outer;
            atomic_store(&held[i]->holder, 0);
            PyThread_release_lock(held[i]->lock);
        }
}

PyObject *ha_models_in_use(void)
{
    PyObject *list = PyList_New(0), *models = NULL;
    int ok = list != NULL;
    for (model_object *m = innermost; ok && m; m = m->outer)
        ok = PyList_Append(list, (PyObject *)m) == 0;
    if (ok)
        models = PyList_AsTuple(list);
    Py_XDECREF(list);
    return models;
}

static int init(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"config", "layers", NULL};
    PyObject *config, *layers, *own_config = NULL, *own_layers = NULL, *stored = NULL;
    ha_config c = {0};
    ha_layer_spec *specs = NULL;
    float *inv_freq = NULL;
    int ok = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Model", names, &config, &layers))
        return -1;
    if (ha_parse_config(config, &c, &inv_freq) < 0)
        goto done;
    specs = PyMem_Calloc((size_t)c.num_layers, sizeof *specs);
    if (!specs) {
        PyErr_NoMemory();
        goto done;
    }
    if (ha_parse_layers(layers, c.num_layers, specs) < 0)
        goto done;
    own_config = PyDict_New();
    own_layers = PySequence_List(layers);
    stored = PyDict_New();
    if (!own_config || !own_layers || !stored || PyDict_Update(own_config, config) < 0)
        goto done;
    if (self->model) { /* asked after all that may run other code */
        PyErr_SetString(PyExc_RuntimeError, "Model.__init__ was called twice");
        goto done;
    }
    if (!self->lock && !(self->lock = PyThread_allocate_lock())) {
        PyErr_NoMemory();
        goto done;
    }
    ha_status status = self->arena.base ? HA_OK : ha_arena_open(&self->arena);
    if (status == HA_OK)
        status = ha_model_new(&c, specs, &self->model);
    if (status == HA_OK) {
        self->config = Py_NewRef(own_config);
        self->layers = Py_NewRef(own_layers);
        self->stored = Py_NewRef(stored);
        ok = 0;
    } else {
        ha_raise(status);
    }
done:
    Py_XDECREF(own_config);
    Py_XDECREF(own_layers);
    Py_XDECREF(stored);
    PyMem_Free(inv_freq);
    PyMem_Free(specs);
    return ok;
}

static int traverse(model_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->config);
    Py_VISIT(self->layers);
    Py_VISIT(self->stored);
    return 0;
}

static int clear(model_object *self)
{
    Py_CLEAR(self->config);
    Py_CLEAR(self->layers);
    return 0;
}

static void dealloc(model_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_CLEAR(self->stored); /* not in clear: the model's matrices point into it */
    ha_model_free(self->model);
    ha_arena_close(&self->arena);
    if (self->lock)
        PyThread_free_lock(self->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

/* hidden states of packed sequences, [rows, hidden]; a cache continues its sequences instead of starting new ones */
static ha_status packed_hidden(model_object *self, const packed *p, ha_cache *cache, float *hidden,
                               const ha_interrupt *check)
{
    const ha_windows w = {p->token, p->window, p->n_seq, self->model->config.vocab_size, p->segment};
    if (!cache)
        return ha_windows_hidden(self->model, &w, hidden, &self->arena, check);
    ha_batch batch;
    int *extra;
    HA_TRY(ha_windows_batch(&w, 0, p->n_seq, 1, &self->arena, &batch));
    HA_PUSH(extra, &self->arena, (size_t)p->n_seq);
    int32_t *position = (int32_t *)batch.position;
    for (int s = 0; s < p->n_seq; s++) {
        extra[s] = batch.offset[s + 1] - batch.offset[s];
        for (int r = batch.offset[s]; r < batch.offset[s + 1]; r++)
            position[r] += ha_cache_length(cache, s);
    }
    HA_TRY(ha_cache_reserve(cache, extra));
    return ha_model_hidden(self->model, NULL, &batch, cache, hidden, &self->arena, check);
}

/* Rows of all sequences, or, with room for them in `last` [B,hidden], only the last of each, to an array [B,T,width] or
 * [B,width]: hidden states or logits. */
static void unpack(model_object *self, const packed *p, const float *hidden, float *last, int logits, float *out)
{
    const size_t d = (size_t)self->model->config.hidden_size,
                 width = logits ? (size_t)self->model->config.vocab_size : d;
    if (last) {
        for (int s = 0; s < p->n_seq; s++)
            memcpy(last + (size_t)s * d, hidden + (size_t)(p->window[2 * s + 1] - 1) * d, d * sizeof *last);
        ha_model_logits(self->model, p->n_seq, last, out);
        return;
    }
    for (int s = 0; s < p->n_seq; s++) {
        int n = (int)(p->window[2 * s + 1] - p->window[2 * s]);
        float *to = out + ((size_t)s * (size_t)p->width + (size_t)p->first[s]) * width;
        const float *from = hidden + (size_t)p->window[2 * s] * d;
        if (logits)
            ha_model_logits(self->model, n, from, to);
        else
            memcpy(to, from, (size_t)n * d * sizeof *to);
    }
}

/* All memory is taken before a cache moves on, so that what follows it cannot fail. */
static ha_status packed_run(model_object *self, const packed *p, ha_cache *cache, int last, int logits, float *out,
                            const ha_interrupt *check)
{
    const size_t d = (size_t)self->model->config.hidden_size;
    float *hidden, *rows = NULL;
    HA_PUSH(hidden, &self->arena, (size_t)p->rows * d);
    if (last)
        HA_PUSH(rows, &self->arena, (size_t)p->n_seq * d);
    HA_TRY(packed_hidden(self, p, cache, hidden, check));
    unpack(self, p, hidden, rows, logits, out);
    return HA_OK;
}

static cache_object *cache_arg(model_object *self, PyObject *object, int n_seq)
{
    module_state *state = ha_state_of(Py_TYPE(self));
    if (!state)
        return NULL;
    if (!PyObject_TypeCheck(object, state->cache)) {
        PyErr_Format(PyExc_TypeError, "cache is a %s, expected a Cache", Py_TYPE(object)->tp_name);
        return NULL;
    }
    cache_object *cache = (cache_object *)object;
    if (cache->owner != self) {
        PyErr_SetString(PyExc_ValueError, "cache belongs to another model");
        return NULL;
    }
    if (ha_cache_sequences(cache->cache) != n_seq) {
        PyErr_Format(PyExc_ValueError, "tokens has %d sequences and the cache %d", n_seq,
                     ha_cache_sequences(cache->cache));
        return NULL;
    }
    return cache;
}

static int meets(model_object *self, ha_status (*need)(const ha_model *))
{
    const ha_status status = need(self->model);
    if (status != HA_OK)
        ha_raise(status);
    return status == HA_OK;
}

static PyObject *run(model_object *self, PyObject *tokens, PyObject *mask, PyObject *cache, PyObject *segments,
                     int last, int logits)
{
    packed p;
    cache_object *state = NULL;
    if (!ha_model_ready(self) || (logits && !meets(self, ha_model_need_head)) ||
        ha_pack(self, tokens, mask, segments, &p) < 0)
        return NULL;
    const ha_config *c = &self->model->config;
    npy_intp shape[3] = {p.n_seq, last ? (logits ? c->vocab_size : c->hidden_size) : p.width,
                         logits ? c->vocab_size : c->hidden_size};
    if (cache != Py_None && !(state = cache_arg(self, cache, p.n_seq))) {
        ha_pack_clear(&p);
        return NULL;
    }
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(last ? 2 : 3, shape, NPY_FLOAT32, 0);
    if (out) {
        const ha_interrupt check = {ha_poll_signals, NULL};
        ha_status status;
        HA_BEGIN_CORE(status, self, NULL)
        size_t mark = ha_arena_mark(&self->arena);
        status = packed_run(self, &p, state ? state->cache : NULL, last, logits, PyArray_DATA(out), &check);
        ha_arena_release(&self->arena, mark);
        HA_END_CORE(self, NULL)
        if (status != HA_OK) {
            Py_CLEAR(out);
            ha_raise(status);
        }
    }
    ha_pack_clear(&p);
    return (PyObject *)out;
}

static PyObject *logits(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "last", "segments", NULL};
    PyObject *tokens, *mask = Py_None, *cache = Py_None, *segments = Py_None;
    int last = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOpO:logits", names, &tokens, &mask, &cache, &last, &segments))
        return NULL;
    return run(self, tokens, mask, cache, segments, last, 1);
}

static PyObject *hidden(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", "cache", "segments", NULL};
    PyObject *tokens, *mask = Py_None, *cache = Py_None, *segments = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:hidden", names, &tokens, &mask, &cache, &segments))
        return NULL;
    return run(self, tokens, mask, cache, segments, 0, 0);
}

static ha_status packed_nll(model_object *self, const packed *p, float *out, const ha_interrupt *check)
{
    const ha_model *m = self->model;
    const ha_windows w = {p->token, p->window, p->n_seq, m->config.vocab_size, p->segment};
    float *hidden;
    double *loss;
    int32_t *target;
    HA_PUSH(hidden, &self->arena, (size_t)p->rows * (size_t)m->config.hidden_size);
    HA_PUSH(loss, &self->arena, (size_t)p->rows);
    HA_PUSH(target, &self->arena, (size_t)p->rows);
    for (int s = 0; s < p->n_seq; s++)
        for (int64_t r = p->window[2 * s]; r < p->window[2 * s + 1]; r++)
            target[r] = r + 1 < p->window[2 * s + 1] ? p->token[r + 1] : -1;
    HA_TRY(ha_windows_hidden(m, &w, hidden, &self->arena, check));
    HA_TRY(ha_head_cross_entropy(p->rows, m->config.hidden_size, m->config.vocab_size, hidden, ha_model_head(m), target,
                                 0.0f, loss, NULL, (ha_head_gradient){0}, check, &self->arena));
    for (int s = 0; s < p->n_seq; s++)
        for (int64_t i = 0; i + 1 < p->window[2 * s + 1] - p->window[2 * s]; i++)
            out[(size_t)s * (size_t)(p->width - 1) + (size_t)(p->first[s] + i)] = (float)loss[p->window[2 * s] + i];
    return HA_OK;
}

static PyObject *nll(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "mask", NULL};
    PyObject *tokens, *mask = Py_None;
    packed p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:nll", names, &tokens, &mask))
        return NULL;
    if (!ha_model_ready(self) || !meets(self, ha_model_need_next) || ha_pack(self, tokens, mask, Py_None, &p) < 0)
        return NULL;
    npy_intp shape[2] = {p.n_seq, p.width - 1};
    PyArrayObject *out = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_FLOAT32, 0);
    if (out) {
        const ha_interrupt check = {ha_poll_signals, NULL};
        ha_status status;
        HA_BEGIN_CORE(status, self, NULL)
        size_t mark = ha_arena_mark(&self->arena);
        status = packed_nll(self, &p, PyArray_DATA(out), &check);
        ha_arena_release(&self->arena, mark);
        HA_END_CORE(self, NULL)
        if (status != HA_OK) {
            Py_CLEAR(out);
            ha_raise(status);
        }
    }
    ha_pack_clear(&p);
    return (PyObject *)out;
}

static PyObject *parameters(model_object *self, PyObject *args, PyObject *kwargs)
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

static PyObject *parameter_info(model_object *self, PyObject *unused)
{
    static const char *const group[] = {
        [HA_GROUP_REST] = "rest", [HA_GROUP_MIXER] = "mixer", [HA_GROUP_FIXED] = "fixed"};
    (void)unused;
    if (!ha_model_ready(self))
        return NULL;
    PyObject *result = PyList_New(0);
    for (int i = 0; result && i < self->model->params.count; i++) {
        const ha_param *p = &self->model->params.list[i];
        PyObject *shape = PyTuple_New(p->ndim), *entry = NULL;
        for (int j = 0; shape && j < p->ndim; j++)
            PyTuple_SET_ITEM(shape, j, PyLong_FromLong(p->shape[j]));
        if (shape)
            entry = Py_BuildValue("(sNs)", p->name, shape, group[p->group]);
        if (!entry || PyList_Append(result, entry) < 0)
            Py_CLEAR(result);
        Py_XDECREF(entry);
    }
    return result;
}

static PyObject *init_mixers(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seed", NULL};
    unsigned long long seed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|K:init_mixers", names, &seed) || !ha_model_ready(self))
        return NULL;
    ha_status status;
    HA_BEGIN_CORE(status, self, NULL)
    status = ha_model_init_mixers(self->model, seed);
    HA_END_CORE(self, NULL)
    if (status != HA_OK)
        return ha_raise(status);
    if (PyErr_Occurred()) /* of a mixer registered from Python */
        return NULL;
    Py_RETURN_NONE;
}

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

static PyObject *cost(model_object *self, PyObject *args, PyObject *kwargs)
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

static PyObject *get_gates(model_object *self, void *closure)
{
    (void)closure;
    if (!ha_model_ready(self))
        return NULL;
    npy_intp shape[1] = {self->model->config.num_layers};
    PyObject *array = PyArray_SimpleNewFromData(1, shape, NPY_FLOAT32, self->model->gates);
    if (array) {
        Py_INCREF(self);
        if (PyArray_SetBaseObject((PyArrayObject *)array, (PyObject *)self) < 0)
            Py_CLEAR(array);
    }
    return array;
}

static PyObject *get_num_parameters(model_object *self, void *closure)
{
    (void)closure;
    if (!ha_model_ready(self))
        return NULL;
    size_t n = 0;
    for (int i = 0; i < self->model->params.count; i++)
        n += self->model->params.list[i].count;
    return PyLong_FromSize_t(n);
}

static PyObject *get_config(model_object *self, void *closure)
{
    (void)closure;
    return ha_model_ready(self) ? PyDict_Copy(self->config) : NULL;
}

static PyObject *get_layers(model_object *self, void *closure)
{
    (void)closure;
    return ha_model_ready(self) ? PySequence_List(self->layers) : NULL;
}

static PyMethodDef methods[] = {
    {"logits", (PyCFunction)(void (*)(void))logits, METH_VARARGS | METH_KEYWORDS,
     "logits($self, tokens, mask=None, cache=None, last=False, segments=None)\n--\n\n"
     "Next-token logits, float32 [B, T, vocab_size], or [B, vocab_size] of each sequence's last token with "
     "last=True.\n\n"
     "tokens: int [B, T]; mask: bool [B, T], False where padded, before or after the tokens; such rows come back as "
     "0.\n"
     "cache: a Cache of B sequences that these tokens continue. An error leaves it as it was or, once layers have run "
     "(Ctrl-C), empty.\n"
     "segments: int [B, T] token types of models that have them (BERT); None: all 0."},
    {"hidden", (PyCFunction)(void (*)(void))hidden, METH_VARARGS | METH_KEYWORDS,
     "hidden($self, tokens, mask=None, cache=None, segments=None)\n--\n\nHidden states, float32 [B, T, hidden_size]: "
     "what the LM head is applied to, or the last layer's output of a model without one; arguments as in logits."},
    {"nll", (PyCFunction)(void (*)(void))nll, METH_VARARGS | METH_KEYWORDS,
     "nll($self, tokens, mask=None)\n--\n\n-log p(token t + 1 | tokens up to t) in nats, float32 [B, T - 1]; 0 where "
     "padded. Logits never exist at once."},
    {"forward_windows", (PyCFunction)(void (*)(void))ha_model_forward_windows, METH_VARARGS | METH_KEYWORDS,
     "forward_windows($self, tokens, windows, out, segments=None)\n--\n\n"
     "Writes the final hidden states of every window's tokens to their places in out.\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2], each (start, stop) a sequence; out: float32 [n, hidden_size]; "
     "segments: int32 [n], token types of models that have them; None: all 0."},
    {"task_logits", (PyCFunction)(void (*)(void))ha_model_task_logits, METH_VARARGS | METH_KEYWORDS,
     "task_logits($self, tokens, windows, segments=None)\n--\n\n"
     "Logits of the task's head, float32 [m, num_labels]; for spans [n, 2], start and end at the place of every token "
     "in a window.\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2], each (start, stop) a sequence; segments as in forward_windows."},
    {"parameters", (PyCFunction)(void (*)(void))parameters, METH_VARARGS | METH_KEYWORDS,
     "parameters($self, stored=True)\n--\n\nName -> Tensor in arena order: writable float32 views; of stored "
     "parameters read-only "
     "views (bfloat16, float16) or float32 copies (block types), unless they are left out."},
    {"store", (PyCFunction)(void (*)(void))ha_model_store_method, METH_VARARGS | METH_KEYWORDS,
     "store($self, name, dtype, data)\n--\n\nKeeps an embedding, projection or LM head as `data`, uint8 [rows, bytes] "
     "of that dtype, which may be mapped from a file and must not change. It can no longer be trained."},
    {"moments", (PyCFunction)(void (*)(void))ha_model_moments, METH_VARARGS | METH_KEYWORDS,
     "moments($self, tokens, windows, names, segments=None)\n--\n\n"
     "{name: float32 [in, in]} for some of matrices(): the sum of x^T x over the rows x that each is multiplied with, "
     "zero where it is not used. Matrices that read the same have one array.\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2], each (start, stop) a sequence; segments as in forward_windows."},
    {"matrices", (PyCFunction)ha_model_matrices, METH_NOARGS,
     "matrices($self)\n--\n\nNames of the parameters that store takes."},
    {"stored", (PyCFunction)ha_model_stored_method, METH_NOARGS,
     "stored($self)\n--\n\nName -> (dtype, data) of the parameters given to store."},
    {"parameter_info", (PyCFunction)parameter_info, METH_NOARGS,
     "parameter_info($self)\n--\n\nList of (name, shape, group); group is 'mixer' or 'rest', the learning-rate groups "
     "of distillation, or 'fixed': never trained."},
    {"init_mixers", (PyCFunction)(void (*)(void))init_mixers, METH_VARARGS | METH_KEYWORDS,
     "init_mixers($self, seed=0)\n--\n\nAttention weight transfer (RADLADS, arXiv 2505.03005) in every layer with both "
     "mixers; seed draws what softmax has not. A linear mixer with stored matrices is refused."},
    {"cost", (PyCFunction)(void (*)(void))cost, METH_VARARGS | METH_KEYWORDS,
     "cost($self, context=1024.0)\n--\n\nFor each layer: mixer kind -> forward FLOP per token at that context, fixed "
     "state bytes, bytes per token."},
    {0},
};

static PyGetSetDef getset[] = {
    {"gates", (getter)get_gates, NULL,
     "float32 [num_layers], writable view: 1 softmax, 0 linear, for layers with both mixers.", NULL},
    {"num_parameters", (getter)get_num_parameters, NULL, "Number of weights.", NULL},
    {"config", (getter)get_config, NULL, "The numbers the model was made from.", NULL},
    {"layers", (getter)get_layers, NULL, "The mixer specs of each layer.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "Model(config, layers)\n--\n\nA teacher, a probe or a hybrid with zero weights.\n\n"
                "config: mapping as ModelConfig.to_core() gives it; layers: for each layer one or two mixer specs\n"
                "({'kind': name, **options}), softmax and at most one linear kind."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, init},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec type_spec = {"hybridattn._core.Model", sizeof(model_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, type_slots};

int ha_add_model(PyObject *module, module_state *state)
{
    state->model = (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
    return state->model ? PyModule_AddType(module, state->model) : -1;
}
