/* class KLScorer: kl, flip, gate_gradient on windows of a token stream. */
#include "python/objects.h"

typedef struct {
    PyObject_HEAD model_object *model, *teacher;
} scorer_object;

static PyObject *scorer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"model", "teacher", NULL};
    PyObject *model, *teacher = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:KLScorer", names, &model, &teacher))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *m = state ? ha_model_arg(state, model, "model") : NULL;
    model_object *t = !m || teacher == Py_None ? NULL : ha_model_arg(state, teacher, "teacher");
    if (!m || (teacher != Py_None && !t))
        return NULL;
    const ha_config *a = &m->model->config, *b = t ? &t->model->config : a;
    if (a->vocab_size != b->vocab_size || a->hidden_size != b->hidden_size)
        return PyErr_Format(PyExc_ValueError, "teacher and model differ: vocab_size %d and %d, hidden_size %d and %d",
                            b->vocab_size, a->vocab_size, b->hidden_size, a->hidden_size);
    for (int l = 0; !t && l < a->num_layers; l++)
        if (!m->model->layer[l].softmax.kind)
            return PyErr_Format(PyExc_ValueError, "layer %d has no softmax mixer: give the teacher, or score a probe",
                                l);
    scorer_object *self = (scorer_object *)type->tp_alloc(type, 0);
    if (self) {
        Py_INCREF(m);
        Py_XINCREF(t);
        self->model = m;
        self->teacher = t;
    }
    return (PyObject *)self;
}

static int traverse(scorer_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->model);
    Py_VISIT(self->teacher);
    return 0;
}

static void dealloc(scorer_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->model);
    Py_XDECREF(self->teacher);
    type->tp_free(self);
    Py_DECREF(type);
}

static const ha_interrupt signals = {ha_poll_signals, NULL};

static ha_scorer core_of(scorer_object *self)
{
    return (ha_scorer){self->model->model, self->teacher ? self->teacher->model : NULL, &self->model->arena, &signals};
}

static PyObject *new_doubles(int ndim, npy_intp a, npy_intp b)
{
    npy_intp shape[2] = {a, b};
    return PyArray_SimpleNew(ndim, shape, NPY_FLOAT64);
}

/* kl(...) and, with_nll, evaluate(...) */
static PyObject *run(scorer_object *self, PyObject *args, PyObject *kwargs, const char *format, int with_nll)
{
    static char *names[] = {"tokens", "windows", "gates", "teacher_hidden", NULL};
    PyObject *tokens, *windows, *gates_object = Py_None, *hidden_object = Py_None, *mean = NULL, *nll = NULL,
                                *result = NULL;
    windows_arg w;
    PyArrayObject *gates = NULL, *hidden = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &tokens, &windows, &gates_object, &hidden_object))
        return NULL;
    if (ha_windows_parse(self->model, tokens, windows, 1 + with_nll, &w) < 0)
        return NULL;
    const npy_intp shape[2] = {PyArray_DIM(w.tokens, 0), self->model->model->config.hidden_size};
    if (!(gates = ha_gates_parse(self->model, gates_object)) ||
        (hidden_object != Py_None && !(hidden = ha_array_arg(hidden_object, "teacher_hidden", NPY_FLOAT32, 2, shape))))
        goto done;
    mean = new_doubles(1, w.view.count, 0);
    nll = with_nll ? new_doubles(1, w.view.count, 0) : NULL;
    if (mean && (nll || !with_nll)) {
        ha_scorer core = core_of(self);
        ha_status status;
        HA_BEGIN_CORE(status, self->model, self->teacher)
        size_t mark = ha_arena_mark(core.arena);
        status = ha_score_kl(&core, &w.view, PyArray_DATA(gates), hidden ? PyArray_DATA(hidden) : NULL,
                             PyArray_DATA((PyArrayObject *)mean), nll ? PyArray_DATA((PyArrayObject *)nll) : NULL);
        ha_arena_release(core.arena, mark);
        HA_END_CORE(self->model, self->teacher)
        result = status != HA_OK ? ha_raise(status) : nll ? PyTuple_Pack(2, mean, nll) : Py_NewRef(mean);
    }
done:
    Py_XDECREF(mean);
    Py_XDECREF(nll);
    Py_XDECREF(gates);
    Py_XDECREF(hidden);
    ha_windows_clear(&w);
    return result;
}

static PyObject *kl(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OO:kl", 0);
}

static PyObject *evaluate(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OO:evaluate", 1);
}

/* A list of layer numbers: ascending, each with both mixers. Returns their count or -1; *out is to be freed. */
static int parse_layers(scorer_object *self, PyObject *object, int **out)
{
    const ha_model *m = self->model->model;
    PyObject *list = ha_tuple_arg(object, "layers", "a sequence of layer numbers");
    if (!list)
        return -1;
    Py_ssize_t n = PyTuple_GET_SIZE(list);
    *out = PyMem_Calloc((size_t)n + 1, sizeof **out);
    if (!*out)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; *out && i < n; i++) {
        long l = PyLong_AsLong(PyTuple_GET_ITEM(list, i));
        if (!PyErr_Occurred() && (l < 0 || l >= m->config.num_layers || (i > 0 && l <= (*out)[i - 1])))
            PyErr_Format(PyExc_ValueError, "layers[%zd] is %ld, allowed are ascending numbers from 0 to %d", i, l,
                         m->config.num_layers - 1);
        else if (!PyErr_Occurred() && !(m->layer[l].softmax.kind && m->layer[l].linear.kind))
            PyErr_Format(PyExc_ValueError, "layer %ld has only one mixer: flip needs a probe", l);
        if (PyErr_Occurred()) {
            PyMem_Free(*out);
            *out = NULL;
            break;
        }
        (*out)[i] = (int)l;
    }
    Py_DECREF(list);
    return *out ? (int)n : -1;
}

static PyObject *flip(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "gates", "layers", NULL};
    PyObject *tokens, *windows, *gates_object, *layers_object, *base = NULL, *flipped = NULL, *result = NULL;
    PyArrayObject *gates = NULL;
    windows_arg w;
    int *layers = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:flip", names, &tokens, &windows, &gates_object,
                                     &layers_object))
        return NULL;
    if (ha_windows_parse(self->model, tokens, windows, 1, &w) < 0)
        return NULL;
    gates = ha_gates_parse(self->model, gates_object);
    int n = gates ? parse_layers(self, layers_object, &layers) : -1;
    if (n >= 0 && (base = new_doubles(1, w.view.count, 0)) && (flipped = new_doubles(2, n, w.view.count))) {
        ha_scorer core = core_of(self);
        ha_status status;
        HA_BEGIN_CORE(status, self->model, self->teacher)
        size_t mark = ha_arena_mark(core.arena);
        status = ha_score_flip(&core, &w.view, PyArray_DATA(gates), n, layers, PyArray_DATA((PyArrayObject *)base),
                               PyArray_DATA((PyArrayObject *)flipped));
        ha_arena_release(core.arena, mark);
        HA_END_CORE(self->model, self->teacher)
        result = status == HA_OK ? PyTuple_Pack(2, base, flipped) : ha_raise(status);
    }
    Py_XDECREF(base);
    Py_XDECREF(flipped);
    Py_XDECREF(gates);
    PyMem_Free(layers);
    ha_windows_clear(&w);
    return result;
}

static PyObject *gate_gradient(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "gates", NULL};
    PyObject *tokens, *windows, *gates_object, *mean = NULL, *by_layer = NULL, *gradient, *result = NULL;
    PyArrayObject *gates = NULL;
    windows_arg w;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:gate_gradient", names, &tokens, &windows, &gates_object))
        return NULL;
    if (ha_windows_parse(self->model, tokens, windows, 1, &w) < 0)
        return NULL;
    if ((gates = ha_gates_parse(self->model, gates_object)) && (mean = new_doubles(1, w.view.count, 0)) &&
        (by_layer = new_doubles(2, self->model->model->config.num_layers, w.view.count))) {
        ha_scorer core = core_of(self);
        ha_status status;
        HA_BEGIN_CORE(status, self->model, self->teacher)
        size_t mark = ha_arena_mark(core.arena);
        status = ha_score_gates(&core, &w.view, PyArray_DATA(gates), PyArray_DATA((PyArrayObject *)mean),
                                PyArray_DATA((PyArrayObject *)by_layer));
        ha_arena_release(core.arena, mark);
        HA_END_CORE(self->model, self->teacher)
        gradient = status == HA_OK ? PyArray_Transpose((PyArrayObject *)by_layer, NULL) : ha_raise(status);
        result = gradient ? PyTuple_Pack(2, mean, gradient) : NULL;
        Py_XDECREF(gradient);
    }
    Py_XDECREF(mean);
    Py_XDECREF(by_layer);
    Py_XDECREF(gates);
    ha_windows_clear(&w);
    return result;
}

static PyMethodDef methods[] = {
    {"kl", (PyCFunction)(void (*)(void))kl, METH_VARARGS | METH_KEYWORDS,
     "kl($self, tokens, windows, gates=None, teacher_hidden=None)\n--\n\n"
     "Mean KL(teacher || model) of each window, nats per token, float64 [m].\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2]; gates: float [num_layers], the model's own when None.\n"
     "teacher_hidden: float32 [n, hidden_size], the teacher's Model.forward_windows of these windows, to save its "
     "pass."},
    {"evaluate", (PyCFunction)(void (*)(void))evaluate, METH_VARARGS | METH_KEYWORDS,
     "evaluate($self, tokens, windows, gates=None, teacher_hidden=None)\n--\n\n"
     "(kl [m], nll [m]) from one pass: kl as above, nll the model's mean -log p(next token) in each window, nats."},
    {"flip", (PyCFunction)(void (*)(void))flip, METH_VARARGS | METH_KEYWORDS,
     "flip($self, tokens, windows, gates, layers)\n--\n\n"
     "KL of the hybrid with these gates, [m], and of those with gate l replaced by 1 - gate, [len(layers), m].\n\n"
     "Candidates share the computation below their layer and run side by side above it."},
    {"gate_gradient", (PyCFunction)(void (*)(void))gate_gradient, METH_VARARGS | METH_KEYWORDS,
     "gate_gradient($self, tokens, windows, gates)\n--\n\nKL [m] and its derivative by every gate [m, num_layers], "
     "from one backward pass."},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "KLScorer(model, teacher=None)\n--\n\nWhat the model loses against its teacher when layers are linear "
                "(arXiv 2512.20569).\n\n"
                "Without a teacher the model, a probe, is its own: every gate at 1."},
    {Py_tp_new, scorer_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec type_spec = {"hybridattn._core.KLScorer", sizeof(scorer_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, type_slots};

int ha_add_scorer(PyObject *module, module_state *state)
{
    state->scorer = (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
    return state->scorer ? PyModule_AddType(module, state->scorer) : -1;
}
