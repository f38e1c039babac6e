/* class Model:
 *     __init__(config, layers)                  model_spec.c
 *     logits, hidden, nll                       forward passes: model_forward.c
 *     forward_windows, moments, task_logits     on windows of a stream: model_windows.c
 *     store, stored, matrices                   parameters of other types: model_store.c
 *     parameters, parameter_info, cost          what it is made of: model_facts.c
 *     gates, config, layers, num_parameters, init_mixers
 */
#include "python/model.h"

#include "python/model_facts.h"
#include "python/model_forward.h"
#include "python/model_lock.h"
#include "python/model_spec.h"
#include "python/model_store.h"
#include "python/model_branch.h"
#include "python/model_trace.h"
#include "python/model_windows.h"
#include "python/raise.h"

/* The object gets its model and keeps `config`, `layers` and an empty `stored`; -1 with an
 * exception, and it may be initialised again. */
static int start(model_object *self, const ha_config *numbers, const ha_layer_spec *specs, PyObject *config,
                 PyObject *layers, PyObject *stored)
{
    if (self->model) {
        PyErr_SetString(PyExc_RuntimeError, "Model.__init__ was called twice");
        return -1;
    }
    if (!self->lock && !(self->lock = PyThread_allocate_lock())) {
        PyErr_NoMemory();
        return -1;
    }
    if (!self->arena.size)
        ha_arena_open(&self->arena);
    const ha_status status = ha_model_new(numbers, specs, &self->model);
    if (status != HA_OK) {
        ha_raise(status);
        return -1;
    }
    self->config = Py_NewRef(config);
    self->layers = Py_NewRef(layers);
    self->stored = Py_NewRef(stored);
    return 0;
}

/* Model.__init__(config, layers) */
static int init(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"config", "layers", NULL};
    PyObject *config, *layers, *own_config = NULL, *own_layers = NULL, *stored = NULL;
    ha_config numbers = {0};
    ha_layer_spec *specs = NULL;
    ha_config_memory memory = {0};
    int result = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Model", names, &config, &layers))
        return -1;
    if (ha_parse_config(config, &numbers, &memory) == 0 &&
        !(specs = PyMem_Calloc((size_t)numbers.num_layers, sizeof *specs)))
        PyErr_NoMemory();
    if (specs && ha_parse_layers(layers, numbers.num_layers, specs) == 0) {
        own_config = PyDict_New();
        own_layers = PySequence_List(layers);
        stored = PyDict_New();
    }
    /* Whether the object has a model already is asked last, after all that may run other code. */
    if (own_config && own_layers && stored && PyDict_Update(own_config, config) == 0)
        result = start(self, &numbers, specs, own_config, own_layers, stored);
    Py_XDECREF(own_config);
    Py_XDECREF(own_layers);
    Py_XDECREF(stored);
    ha_config_memory_free(&memory);
    PyMem_Free(specs);
    return result;
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

/* Model.init_mixers(seed=0) */
static PyObject *init_mixers(model_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seed", NULL};
    unsigned long long seed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|K:init_mixers", names, &seed) || !ha_model_ready(self))
        return NULL;
    ha_core_call core = ha_core_begin(self, NULL);
    if (core.status == HA_OK)
        core.status = ha_model_init_mixers(self->model, seed);
    if (ha_core_end(&core) != HA_OK)
        return ha_raise(core.status);
    if (PyErr_Occurred()) /* of a mixer registered from Python */
        return NULL;
    Py_RETURN_NONE;
}

/* float32 [num_layers], a view */
static PyObject *get_gates(model_object *self, void *closure)
{
    (void)closure;
    if (!ha_model_ready(self))
        return NULL;
    npy_intp shape[1] = {self->model->config.num_layers};
    PyObject *array = PyArray_SimpleNewFromData(1, shape, NPY_FLOAT32, self->model->gates);
    if (array && PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(self)) < 0)
        Py_CLEAR(array);
    return array;
}

/* Numbers in all parameters. */
static PyObject *get_num_parameters(model_object *self, void *closure)
{
    (void)closure;
    if (!ha_model_ready(self))
        return NULL;
    size_t count = 0;
    for (int i = 0; i < self->model->params.count; i++)
        count += self->model->params.list[i].count;
    return PyLong_FromSize_t(count);
}

/* A copy of the config. */
static PyObject *get_config(model_object *self, void *closure)
{
    (void)closure;
    return ha_model_ready(self) ? PyDict_Copy(self->config) : NULL;
}

/* A copy of the mixer specs. */
static PyObject *get_layers(model_object *self, void *closure)
{
    (void)closure;
    return ha_model_ready(self) ? PySequence_List(self->layers) : NULL;
}

static const char *const compute_name[HA_COMPUTE_COUNT] = {
    [HA_COMPUTE_F32] = "float32", [HA_COMPUTE_BF16] = "bfloat16"};

static PyObject *get_compute(model_object *self, void *closure)
{
    (void)closure;
    return ha_model_ready(self) ? PyUnicode_FromString(compute_name[self->model->params.compute]) : NULL;
}

/* Model.compute = value */
static int set_compute(model_object *self, PyObject *value, void *closure)
{
    (void)closure;
    if (!ha_model_ready(self))
        return -1;
    for (int i = 0; value && PyUnicode_Check(value) && i < HA_COMPUTE_COUNT; i++)
        if (PyUnicode_CompareWithASCIIString(value, compute_name[i]) == 0) {
            ha_core_call core = ha_core_begin(self, NULL);
            if (core.status == HA_OK)
                self->model->params.compute = (ha_compute)i;
            return ha_core_end(&core) == HA_OK ? 0 : (ha_raise(core.status), -1);
        }
    PyErr_Format(PyExc_ValueError, "compute is %R; allowed: 'float32', 'bfloat16'", value ? value : Py_None);
    return -1;
}

static PyMethodDef methods[] = {
    {"logits", (PyCFunction)(void (*)(void))ha_model_logits_method, METH_VARARGS | METH_KEYWORDS,
     "logits($self, tokens, mask=None, cache=None, last=False, segments=None)\n--\n\n"
     "Next-token logits, float32 [B, T, vocab_size], or [B, vocab_size] of each sequence's last token with "
     "last=True.\n\n"
     "tokens: int [B, T]; mask: bool [B, T], False where padded, before or after the tokens; such rows come back as "
     "0.\n"
     "cache: a Cache of B sequences that these tokens continue. An error leaves it as it was or, once layers have run "
     "(Ctrl-C), empty.\n"
     "segments: int [B, T] token types of models that have them (BERT); None: all 0."},
    {"hidden", (PyCFunction)(void (*)(void))ha_model_hidden_method, METH_VARARGS | METH_KEYWORDS,
     "hidden($self, tokens, mask=None, cache=None, segments=None)\n--\n\nHidden states, float32 [B, T, hidden_size]: "
     "what the LM head is applied to, or the last layer's output of a model without one; arguments as in logits."},
    {"nll", (PyCFunction)(void (*)(void))ha_model_nll_method, METH_VARARGS | METH_KEYWORDS,
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
    {"parameters", (PyCFunction)(void (*)(void))ha_model_parameters, METH_VARARGS | METH_KEYWORDS,
     "parameters($self, stored=True)\n--\n\nName -> Tensor in arena order: writable float32 views; of stored "
     "parameters read-only "
     "views (bfloat16, float16) or float32 copies (block types), unless they are left out."},
    {"store", (PyCFunction)(void (*)(void))ha_model_store_method, METH_VARARGS | METH_KEYWORDS,
     "store($self, name, dtype, data)\n--\n\nKeeps an embedding, projection or LM head as `data`, uint8 [rows, bytes] "
     "of that dtype, which may be mapped from a file and must not change. It can no longer be trained."},
    {"moments", (PyCFunction)(void (*)(void))ha_model_moments, METH_VARARGS | METH_KEYWORDS,
     "moments($self, tokens, windows, names, segments=None, into=None)\n--\n\n"
     "{name: float32 [in, in]} for some of matrices(): the sum of x^T x over the rows x that each is multiplied with, "
     "zero where it is not used. Matrices that read the same have one array. `into`: what an earlier call gave, which "
     "is "
     "added to; windows that make up 2048 tokens at a time give the bits of one call.\n\n"
     "tokens: int32 [n]; windows: int64 [m, 2], each (start, stop) a sequence; segments as in forward_windows."},
    {"trace_layer", (PyCFunction)(void (*)(void))ha_model_trace_layer, METH_VARARGS | METH_KEYWORDS,
     "trace_layer($self, layer, tokens, windows, incoming=None, linear=False, segments=None)\n--\n\n"
     "What a layer reads and gives on the teacher's stream, float32 [T, ..] for the T tokens of all windows, by name: "
     "'stream' behind it; where it holds both mixers also 'input' of the mixers, 'softmax_output', 'softmax_read' "
     "(what softmax's output projection reads) and 'reach', float64 [heads, 3]: queries asked, and the sums over them "
     "of "
     "the mean log(1 + distance in tokens) and of the spread, 0 (one key) to 1 (all alike).\n\n"
     "incoming: the 'stream' of the layer before; linear: 'linear_read' alone, what the linear mixer's output "
     "projection reads; the others as in moments."},
    {"set_branch", (PyCFunction)(void (*)(void))ha_model_set_branch, METH_VARARGS | METH_KEYWORDS,
     "set_branch($self, branch, layer=None)\n--\n\nWhat runs of window_linear from now on, in one layer or in all that "
     "have it: 'both'; 'softmax', the window and the sinks alone; or 'linear', the linear part with all keys but the "
     "token's own and the sinks, as with a window of 1. Copies and decode caches have both."},
    {"matrices", (PyCFunction)ha_model_matrices, METH_NOARGS,
     "matrices($self)\n--\n\nNames of the parameters that store takes."},
    {"stored", (PyCFunction)ha_model_stored_method, METH_NOARGS,
     "stored($self)\n--\n\nName -> (dtype, data) of the parameters given to store."},
    {"parameter_info", (PyCFunction)ha_model_parameter_info, METH_NOARGS,
     "parameter_info($self)\n--\n\nList of (name, shape, group); group is 'mixer' or 'rest', the learning-rate groups "
     "of distillation, or 'fixed': never trained."},
    {"init_mixers", (PyCFunction)(void (*)(void))init_mixers, METH_VARARGS | METH_KEYWORDS,
     "init_mixers($self, seed=0)\n--\n\nAttention weight transfer (RADLADS, arXiv 2505.03005) in every layer with both "
     "mixers; seed draws what softmax has not. A linear mixer with stored matrices is refused."},
    {"cost", (PyCFunction)(void (*)(void))ha_model_cost, METH_VARARGS | METH_KEYWORDS,
     "cost($self, context=1024.0)\n--\n\nFor each layer: mixer kind -> forward FLOP per token at that context, fixed "
     "state bytes, bytes per token."},
    {0},
};

static PyGetSetDef getset[] = {
    {"gates", (getter)get_gates, NULL,
     "float32 [num_layers], writable view: 1 softmax, 0 linear, for layers with both mixers.", NULL},
    {"compute", (getter)get_compute, (setter)set_compute,
     "'float32', or 'bfloat16': products with matrices round both operands to bfloat16 and add up in float32.", NULL},
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
