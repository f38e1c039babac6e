/* class KLScorer: kl, evaluate, flip, gate_gradient, alignment on windows of a token stream. */
#include "python/scorer.h"

#include "python/arrays.h"
#include "python/model_lock.h"
#include "python/raise.h"
#include "python/windows_arg.h"

typedef struct {
    PyObject_HEAD model_object *model, *teacher;
    int64_t layer_passes;
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
    if (t && ha_comparable(t, m, "model") < 0)
        return NULL;
    for (int l = 0; !t && l < m->model->config.num_layers; l++)
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

/* What every method takes, checked. */
typedef struct {
    windows_arg w;
    PyArrayObject *gates, *hidden, *weights;
    const float *gate; /* the given gates, or the model's own as they were at the call */
    ha_scorer core;
} request;

static void clear(request *r)
{
    Py_CLEAR(r->gates);
    Py_CLEAR(r->hidden);
    Py_CLEAR(r->weights);
    ha_windows_clear(&r->w);
}

/* 0, or -1 with an exception and nothing held. */
static int parse(scorer_object *self, PyObject *tokens, PyObject *windows, PyObject *gates, PyObject *hidden,
                 PyObject *weights, PyObject *segments, int shortest, request *r)
{
    *r = (request){0};
    if (ha_windows_parse(self->model, tokens, windows, segments, shortest, &r->w) < 0)
        return -1;
    const npy_intp shape[2] = {PyArray_DIM(r->w.tokens, 0), self->model->model->config.hidden_size};
    if (!(r->gates = ha_gates_parse(self->model, gates)) ||
        (hidden != Py_None && !(r->hidden = ha_array_arg(hidden, "teacher_hidden", NPY_FLOAT32, 2, shape))) ||
        (weights != Py_None && !(r->weights = ha_weights_parse(self->model, &r->w, weights)))) {
        clear(r);
        return -1;
    }
    r->gate = PyArray_DATA(r->gates);
    r->core = (ha_scorer){.model = self->model->model,
                          .teacher = self->teacher ? self->teacher->model : NULL,
                          .arena = &self->model->arena,
                          .check = &ha_signals,
                          .teacher_hidden = r->hidden ? PyArray_DATA(r->hidden) : NULL,
                          .weight = r->weights ? PyArray_DATA(r->weights) : NULL,
                          .layer_passes = &self->layer_passes};
    return 0;
}

static double *doubles(PyObject *array)
{
    return PyArray_DATA((PyArrayObject *)array);
}

static PyObject *new_doubles(int ndim, npy_intp a, npy_intp b)
{
    npy_intp shape[2] = {a, b};
    return PyArray_SimpleNew(ndim, shape, NPY_FLOAT64);
}

/* kl(...) and, with_nll, evaluate(...) */
static PyObject *run(scorer_object *self, PyObject *args, PyObject *kwargs, const char *format, int with_nll)
{
    static char *names[] = {"tokens", "windows", "gates", "teacher_hidden", "weights", "segments", NULL};
    PyObject *tokens, *windows, *gates = Py_None, *hidden = Py_None, *weights = Py_None, *segments = Py_None, *mean,
                                *nll, *result = NULL;
    request r;
    ha_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &tokens, &windows, &gates, &hidden, &weights,
                                     &segments) ||
        parse(self, tokens, windows, gates, hidden, weights, segments, 1 + with_nll, &r) < 0)
        return NULL;
    mean = new_doubles(1, r.w.view.count, 0);
    nll = with_nll ? new_doubles(1, r.w.view.count, 0) : NULL;
    if (mean && (nll || !with_nll)) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_kl(&r.core, &r.w.view, r.gate, doubles(mean), nll ? doubles(nll) : NULL);
        status = ha_core_end(&core);
        result = status != HA_OK ? ha_raise(status) : nll ? PyTuple_Pack(2, mean, nll) : Py_NewRef(mean);
    }
    Py_XDECREF(mean);
    Py_XDECREF(nll);
    clear(&r);
    return result;
}

static PyObject *kl(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OOOO:kl", 0);
}

static PyObject *evaluate(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OOOO:evaluate", 1);
}

/* A list of layer numbers: ascending, each with both mixers. Returns their count or -1; *out is to
 * be freed. */
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
    static char *names[] = {"tokens",  "windows", "gates",    "layers", "teacher_hidden",
                            "weights", "nll",     "segments", NULL};
    PyObject *tokens, *windows, *gates, *layers_object, *hidden = Py_None, *weights = Py_None, *segments = Py_None,
                                                        *base, *flipped = NULL, *result = NULL;
    int nll = 0, *layers = NULL;
    request r;
    ha_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|OOpO:flip", names, &tokens, &windows, &gates, &layers_object,
                                     &hidden, &weights, &nll, &segments) ||
        parse(self, tokens, windows, gates, hidden, weights, segments, 1 + nll, &r) < 0)
        return NULL;
    int n = parse_layers(self, layers_object, &layers);
    base = n >= 0 ? new_doubles(1, r.w.view.count, 0) : NULL;
    if (base && (flipped = new_doubles(2, n, r.w.view.count))) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_flip(&r.core, &r.w.view, nll ? HA_MEASURE_NLL : HA_MEASURE_KL, r.gate, n, layers,
                                        doubles(base), doubles(flipped));
        status = ha_core_end(&core);
        result = status == HA_OK ? PyTuple_Pack(2, base, flipped) : ha_raise(status);
    }
    Py_XDECREF(base);
    Py_XDECREF(flipped);
    PyMem_Free(layers);
    clear(&r);
    return result;
}

static PyObject *gate_gradient(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "gates", "teacher_hidden", "weights", "segments", NULL};
    PyObject *tokens, *windows, *gates, *hidden = Py_None, *weights = Py_None, *segments = Py_None, *mean, *by_layer,
                                        *gradient, *result = NULL;
    request r;
    ha_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOO:gate_gradient", names, &tokens, &windows, &gates, &hidden,
                                     &weights, &segments) ||
        parse(self, tokens, windows, gates, hidden, weights, segments, 1, &r) < 0)
        return NULL;
    mean = new_doubles(1, r.w.view.count, 0);
    by_layer = new_doubles(2, self->model->model->config.num_layers, r.w.view.count);
    if (mean && by_layer) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_gates(&r.core, &r.w.view, r.gate, doubles(mean), doubles(by_layer));
        status = ha_core_end(&core);
        gradient = status == HA_OK ? PyArray_Transpose((PyArrayObject *)by_layer, NULL) : ha_raise(status);
        result = gradient ? PyTuple_Pack(2, mean, gradient) : NULL;
        Py_XDECREF(gradient);
    }
    Py_XDECREF(mean);
    Py_XDECREF(by_layer);
    clear(&r);
    return result;
}

static PyObject *alignment(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "segments", NULL};
    const ha_model *m = self->model->model;
    PyObject *tokens, *windows, *segments = Py_None, *error, *zero, *result = NULL;
    request r;
    ha_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:alignment", names, &tokens, &windows, &segments))
        return NULL;
    for (int l = 0; l < m->config.num_layers; l++)
        if (!(m->layer[l].softmax.kind && m->layer[l].linear.kind))
            return PyErr_Format(PyExc_ValueError, "layer %d has only one mixer: alignment needs a probe", l);
    if (parse(self, tokens, windows, Py_None, Py_None, Py_None, segments, 1, &r) < 0)
        return NULL;
    error = new_doubles(2, m->config.num_layers, r.w.view.count);
    zero = new_doubles(2, m->config.num_layers, r.w.view.count);
    if (error && zero) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_align(&r.core, &r.w.view, doubles(error), doubles(zero));
        status = ha_core_end(&core);
        result = status == HA_OK ? PyTuple_Pack(2, error, zero) : ha_raise(status);
    }
    Py_XDECREF(error);
    Py_XDECREF(zero);
    clear(&r);
    return result;
}

static PyObject *get_layer_passes(scorer_object *self, void *closure)
{
    return PyLong_FromLongLong(self->layer_passes);
}

static PyObject *get_measure(scorer_object *self, void *closure)
{
    return PyUnicode_FromString(ha_distance_name(self->model->model));
}

static PyGetSetDef getset[] = {
    {"measure", (getter)get_measure, NULL,
     "What the numbers called KL are: 'kl' of next tokens, nats per token; of a model with a task 'task_kl', nats per "
     "sequence, or 'task_mse' of its values; of one without a head 'hidden', |h_T - h_S|^2 / |h_T|^2 per token.",
     NULL},
    {"layer_passes", (getter)get_layer_passes, NULL,
     "Tokens times layers that they went through in all calls so far, a backward pass counted twice.", NULL},
    {0},
};

static PyMethodDef methods[] = {
    {"kl", (PyCFunction)(void (*)(void))kl, METH_VARARGS | METH_KEYWORDS,
     "kl($self, tokens, windows, gates=None, teacher_hidden=None, weights=None, segments=None)\n--\n\n"
     "Mean KL(teacher || model) of each window, nats per token, float64 [m].\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2]; gates: float [num_layers], the model's own when None.\n"
     "teacher_hidden: float32 [n, hidden_size], the teacher's Model.forward_windows of these windows, to save its "
     "pass. weights: float32 [n], how much the prediction of each token (of a bidirectional model: the token's own) "
     "counts "
     "in its window's mean; None: alike. segments: int32 [n], token types of models that have them; None: all 0. See "
     "`measure` for models without an LM head."},
    {"evaluate", (PyCFunction)(void (*)(void))evaluate, METH_VARARGS | METH_KEYWORDS,
     "evaluate($self, tokens, windows, gates=None, teacher_hidden=None, weights=None, segments=None)\n--\n\n"
     "(kl [m], nll [m]) from one pass: kl as above, nll the model's mean -log p(next token) in each window, nats."},
    {"flip", (PyCFunction)(void (*)(void))flip, METH_VARARGS | METH_KEYWORDS,
     "flip($self, tokens, windows, gates, layers, teacher_hidden=None, weights=None, nll=False, segments=None)\n--\n\n"
     "KL of the hybrid with these gates, [m], and of those with gate l replaced by 1 - gate, [len(layers), m].\n\n"
     "Candidates share the computation below their layer and run side by side above it. nll: mean -log p(next token) "
     "instead of KL."},
    {"gate_gradient", (PyCFunction)(void (*)(void))gate_gradient, METH_VARARGS | METH_KEYWORDS,
     "gate_gradient($self, tokens, windows, gates, teacher_hidden=None, weights=None, segments=None)\n--\n\nKL [m] and "
     "its derivative "
     "by every gate [m, num_layers], "
     "from one backward pass."},
    {"alignment", (PyCFunction)(void (*)(void))alignment, METH_VARARGS | METH_KEYWORDS,
     "alignment($self, tokens, windows, segments=None)\n--\n\n(error, zero), each [num_layers, m]: what step 1 trains, "
     "mean over "
     "tokens of "
     "|softmax - linear| * hidden_size**-0.5 on\nthe teacher's hidden states, and the same for a mixer that gives "
     "zero."},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "KLScorer(model, teacher=None)\n--\n\nWhat the model loses against its teacher when layers are linear "
                "(arXiv 2512.20569).\n\n"
                "Without a teacher the model, a probe, is its own: every gate at 1. `measure` says what is compared."},
    {Py_tp_new, scorer_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec type_spec = {"hybridattn._core.KLScorer", sizeof(scorer_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, type_slots};

int ha_add_scorer(PyObject *module, module_state *state)
{
    state->scorer = (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
    return state->scorer ? PyModule_AddType(module, state->scorer) : -1;
}
