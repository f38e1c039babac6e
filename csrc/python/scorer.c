/* class KLScorer: kl, evaluate, flip, gate_gradient, alignment on windows of a token stream. */
#include "python/scorer.h"

#include "python/model_lock.h"
#include "python/raise.h"
#include "python/scorer_request.h"

/* KLScorer(model, teacher=None) */
static PyObject *scorer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"model", "teacher", NULL};
    PyObject *model_given, *teacher_given = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:KLScorer", names, &model_given, &teacher_given))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *model = state ? ha_model_arg(state, model_given, "model") : NULL, *teacher;
    if (!model || ha_teacher_arg(state, teacher_given, model, "model", &teacher) < 0)
        return NULL;
    for (int l = 0; !teacher && l < model->model->config.num_layers; l++)
        if (!model->model->layer[l].softmax.kind && !ha_model_is_probe(model->model))
            return PyErr_Format(PyExc_ValueError, "layer %d has no softmax mixer: give the teacher, or score a probe",
                                l);
    scorer_object *self = (scorer_object *)type->tp_alloc(type, 0);
    if (self) {
        self->model = (model_object *)Py_NewRef(model);
        self->teacher = (model_object *)Py_XNewRef(teacher);
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

/* The data of a float64 array. */
static double *doubles(PyObject *array)
{
    return PyArray_DATA((PyArrayObject *)array);
}

/* A new float64 array [first], or [first,second] with two axes. */
static PyObject *new_doubles(int ndim, npy_intp first, npy_intp second)
{
    npy_intp shape[2] = {first, second};
    return PyArray_SimpleNew(ndim, shape, NPY_FLOAT64);
}

/* kl(...) and, with_nll, evaluate(...): float64 [m] each, alone or in a tuple */
static PyObject *run(scorer_object *self, PyObject *args, PyObject *kwargs, const char *format, int with_nll)
{
    static char *names[] = {"tokens", "windows", "gates", "teacher_hidden", "weights", "segments", "agreement", NULL};
    scorer_arguments given = ha_scorer_defaults();
    scorer_request request;
    int agreement = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &given.tokens, &given.windows, &given.gates,
                                     &given.teacher_hidden, &given.weights, &given.segments, &agreement) ||
        ha_scorer_parse(self, &given, 1 + with_nll, &request) < 0)
        return NULL;
    const ha_windows *windows = &request.windows.view;
    const int count = 1 + with_nll + agreement;
    PyObject *all = PyTuple_New(count), *result = NULL;
    double *out[3] = {NULL};
    for (int i = 0; all && i < count; i++) {
        PyObject *array = new_doubles(1, windows->count, 0);
        if (!array)
            Py_CLEAR(all);
        else {
            PyTuple_SET_ITEM(all, i, array);
            out[i] = doubles(array);
        }
    }
    if (all) {
        request.core.same = agreement ? out[count - 1] : NULL;
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status =
                ha_score_kl(&request.core, windows, ha_scorer_gates(&request), out[0], with_nll ? out[1] : NULL);
        if (ha_core_end(&core) != HA_OK)
            ha_raise(core.status);
        else
            result = Py_NewRef(count > 1 ? all : PyTuple_GET_ITEM(all, 0));
    }
    Py_XDECREF(all);
    ha_scorer_clear(&request);
    return result;
}

/* float64 [m], or (kl, agreement) */
static PyObject *kl(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OOOOp:kl", 0);
}

/* (kl, nll) and with agreement (kl, nll, agreement), float64 [m] each */
static PyObject *evaluate(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    return run(self, args, kwargs, "OO|OOOOp:evaluate", 1);
}

/* (float64 [m] of the hybrid, [layers,m] of those with one gate flipped) */
static PyObject *flip(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens",  "windows", "gates",    "layers", "teacher_hidden",
                            "weights", "nll",     "segments", NULL};
    scorer_arguments given = ha_scorer_defaults();
    scorer_request request;
    PyObject *layers_given, *base = NULL, *flipped = NULL, *result = NULL;
    int nll = 0, *layers = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|OOpO:flip", names, &given.tokens, &given.windows, &given.gates,
                                     &layers_given, &given.teacher_hidden, &given.weights, &nll, &given.segments) ||
        ha_scorer_parse(self, &given, 1 + nll, &request) < 0)
        return NULL;
    const ha_windows *windows = &request.windows.view;
    const int count = ha_flip_layers_parse(self->model->model, layers_given, &layers);
    if (count >= 0 && (base = new_doubles(1, windows->count, 0)))
        flipped = new_doubles(2, count, windows->count);
    if (flipped) {
        const ha_flips flips = {nll ? HA_MEASURE_NLL : HA_MEASURE_KL, ha_scorer_gates(&request), count, layers};
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_flip(&request.core, windows, &flips, doubles(base), doubles(flipped));
        result = ha_core_end(&core) == HA_OK ? PyTuple_Pack(2, base, flipped) : ha_raise(core.status);
    }
    Py_XDECREF(base);
    Py_XDECREF(flipped);
    PyMem_Free(layers);
    ha_scorer_clear(&request);
    return result;
}

/* (float64 [m], [m,num_layers]); the core writes the second layer by layer */
static PyObject *gate_gradient(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "gates", "teacher_hidden", "weights", "segments", NULL};
    scorer_arguments given = ha_scorer_defaults();
    scorer_request request;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOO:gate_gradient", names, &given.tokens, &given.windows,
                                     &given.gates, &given.teacher_hidden, &given.weights, &given.segments) ||
        ha_scorer_parse(self, &given, 1, &request) < 0)
        return NULL;
    const ha_windows *windows = &request.windows.view;
    PyObject *mean = new_doubles(1, windows->count, 0), *result = NULL;
    PyObject *by_layer = new_doubles(2, self->model->model->config.num_layers, windows->count);
    if (mean && by_layer) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status =
                ha_score_gates(&request.core, windows, ha_scorer_gates(&request), doubles(mean), doubles(by_layer));
        PyObject *gradient =
            ha_core_end(&core) == HA_OK ? PyArray_Transpose((PyArrayObject *)by_layer, NULL) : ha_raise(core.status);
        result = gradient ? PyTuple_Pack(2, mean, gradient) : NULL;
        Py_XDECREF(gradient);
    }
    Py_XDECREF(mean);
    Py_XDECREF(by_layer);
    ha_scorer_clear(&request);
    return result;
}

/* (float64 [num_layers,m], the same of a mixer that gives zero); 0 in layers that have no
 * softmax */
static PyObject *alignment(scorer_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "segments", NULL};
    const ha_model *model = self->model->model;
    scorer_arguments given = ha_scorer_defaults();
    scorer_request request;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:alignment", names, &given.tokens, &given.windows,
                                     &given.segments))
        return NULL;
    for (int l = 0; l < model->config.num_layers; l++)
        if (!(model->layer[l].softmax.kind && model->layer[l].linear.kind) && !ha_model_is_probe(model))
            return PyErr_Format(PyExc_ValueError, "layer %d has only one mixer: alignment needs a probe", l);
    if (ha_scorer_parse(self, &given, 1, &request) < 0)
        return NULL;
    const ha_windows *windows = &request.windows.view;
    PyObject *error = new_doubles(2, model->config.num_layers, windows->count), *result = NULL;
    PyObject *zero = new_doubles(2, model->config.num_layers, windows->count);
    if (error && zero) {
        ha_core_call core = ha_core_begin(self->model, self->teacher);
        if (core.status == HA_OK)
            core.status = ha_score_align(&request.core, windows, doubles(error), doubles(zero));
        result = ha_core_end(&core) == HA_OK ? PyTuple_Pack(2, error, zero) : ha_raise(core.status);
    }
    Py_XDECREF(error);
    Py_XDECREF(zero);
    ha_scorer_clear(&request);
    return result;
}

/* Tokens times layers that they went through. */
static PyObject *get_layer_passes(scorer_object *self, void *closure)
{
    return PyLong_FromLongLong(self->layer_passes);
}

/* What is compared, by name. */
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
     "kl($self, tokens, windows, gates=None, teacher_hidden=None, weights=None, segments=None, agreement=False)\n--\n\n"
     "Mean KL(teacher || model) of each window, nats per token, float64 [m].\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2]; gates: float [num_layers], the model's own when None.\n"
     "teacher_hidden: float32 [n, hidden_size], the teacher's Model.forward_windows of these windows, to save its "
     "pass. weights: float32 [n], how much the prediction of each token (of a bidirectional model: the token's own) "
     "counts "
     "in its window's mean; None: alike. segments: int32 [n], token types of models that have them; None: all 0. See "
     "`measure` for models without an LM head. agreement: (kl, agreement [m]) instead, the share of the tokens for "
     "which model and teacher hold the same token likeliest, from the same pass; ValueError where measure is not "
     "'kl'."},
    {"evaluate", (PyCFunction)(void (*)(void))evaluate, METH_VARARGS | METH_KEYWORDS,
     "evaluate($self, tokens, windows, gates=None, teacher_hidden=None, weights=None, segments=None, "
     "agreement=False)\n--\n\n"
     "(kl [m], nll [m]) from one pass: kl as above, nll the model's mean -log p(next token) in each window, nats; "
     "with agreement (kl, nll, agreement)."},
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
