/* The module itself, in Python terms:
 *
 *     class Tensor, Model, Cache, KLScorer, Distiller     one file each
 *     ops.*, reference.*                                  operations and their naive twins
 *     pack(matrix, dtype), unpack(data, dtype)            storage types, see stored.c
 *     show_config(), mixers(), register_mixer(), set_num_threads(n), get_num_threads()
 */
#define HA_IMPORTS_NUMPY
#include "python/cache.h"
#include "python/distiller.h"
#include "python/external_register.h"
#include "python/model.h"
#include "python/submodules.h"
#include "python/scorer.h"
#include "python/state.h"
#include "python/stop.h"
#include "python/stored.h"
#include "python/tensor.h"
#include "core/blas.h"
#include "core/processors.h"
#include "core/thread.h"
#include "kernels/kernels.h"
#include "mixers/mixer.h"

#ifndef HA_BLIS_SOURCE
#define HA_BLIS_SOURCE "unknown"
#endif
#ifndef HA_VERSION
#define HA_VERSION "unknown"
#endif

/* show_config() */
static PyObject *show_config(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:s,s:i}", "version", HA_VERSION, "blis_version",
                         ha_blas_version(), "blis_kernels", ha_blas_arch(), "blis_source", HA_BLIS_SOURCE, "isa",
                         ha_kernels_get()->isa, "bfloat16", ha_bf16_get()->isa ? ha_bf16_get()->isa : "portable",
                         "threads", ha_threads(), "threads_from", ha_threads_reason(), "processors",
                         ha_processors_now());
}

/* {default, min, max, what} of an option, or {default, choices, what} of one whose values have names */
static PyObject *option_facts(const ha_option *option)
{
    PyObject *names = option->names ? PyTuple_New(option->max - option->min + 1) : NULL;
    if (!option->names)
        return Py_BuildValue("{s:i,s:i,s:i,s:s}", "default", option->value, "min", option->min, "max", option->max,
                             "what", option->what);
    for (int i = option->min; names && i <= option->max; i++) {
        PyObject *name = PyUnicode_FromString(option->names[i]);
        if (!name)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i - option->min, name);
    }
    return names ? Py_BuildValue("{s:s,s:N,s:s}", "default", option->names[option->value], "choices", names, "what",
                                 option->what)
                 : NULL;
}

/* {name: facts} of the options of a kind */
static PyObject *options_of(const ha_mixer_kind *kind)
{
    PyObject *options = PyDict_New();
    for (int i = 0; options && i < HA_MAX_OPTIONS && kind->option[i].name; i++) {
        const ha_option *option = &kind->option[i];
        PyObject *entry = option_facts(option);
        if (!entry || PyDict_SetItemString(options, option->name, entry) < 0)
            Py_CLEAR(options);
        Py_XDECREF(entry);
    }
    return options;
}

/* ('causal', 'bidirectional'), or the one of them that the kind serves */
static PyObject *masks_of(const ha_mixer_kind *kind)
{
    static const char *const name[] = {[HA_CAUSAL_ONLY] = "causal", [HA_BIDIRECTIONAL_ONLY] = "bidirectional"};
    return kind->masks == HA_BOTH_MASKS ? Py_BuildValue("(ss)", name[0], name[1])
                                        : Py_BuildValue("(s)", name[kind->masks]);
}

/* mixers(): name -> what the kind is */
static PyObject *mixers(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *result = PyDict_New();
    for (int i = 0; result && ha_mixer_at(i); i++) {
        const ha_mixer_kind *kind = ha_mixer_at(i);
        PyObject *options = options_of(kind), *entry = NULL;
        if (options)
            entry = Py_BuildValue("{s:s,s:z,s:N,s:N,s:N}", "summary", kind->summary, "phrase", kind->phrase, "align_lr",
                                  kind->align_rate > 0.0 ? PyFloat_FromDouble(kind->align_rate) : Py_NewRef(Py_None),
                                  "options", options, "masks", masks_of(kind));
        if (!entry || PyDict_SetItemString(result, kind->name, entry) < 0)
            Py_CLEAR(result);
        Py_XDECREF(entry);
    }
    return result;
}

/* set_num_threads(n), 1 to 1024 */
static PyObject *set_num_threads(PyObject *module, PyObject *arg)
{
    (void)module;
    long threads = PyLong_AsLong(arg);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    if (threads < 1 || threads > 1024)
        return PyErr_Format(PyExc_ValueError, "num_threads is %ld, allowed are 1 to 1024", threads);
    return PyLong_FromLong(ha_set_threads((int)threads));
}

/* get_num_threads() */
static PyObject *get_num_threads(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromLong(ha_threads());
}

static PyMethodDef methods[] = {
    {"show_config", show_config, METH_NOARGS,
     "show_config()\n--\n\nVersion, BLIS (version, kernels, source), instruction set; threads, where their number "
     "comes from, and\nthe processors that run them; as a dict."},
    {"mixers", mixers, METH_NOARGS,
     "mixers()\n--\n\nThe registered token mixers: name -> {'summary', 'phrase', 'align_lr', 'options', 'masks'}. "
     "phrase: what\nthe kind is in half a sentence, or None; align_lr: the learning rate that step 1 starts from "
     "unless "
     "told, None for\nsoftmax; options: name -> default and what, with min and max of numbers or choices of names; "
     "masks: whose "
     "models it serves,\nof 'causal' (decoders) and 'bidirectional' (encoders)."},
    {"register_mixer", (PyCFunction)(void (*)(void))ha_register_mixer, METH_VARARGS | METH_KEYWORDS,
     "register_mixer(name, forward, vjp, step, parameters, init, state=None, *, bidirectional=False,\n"
     "               summary='registered from Python', phrase=None, align_lr=0.001)\n--\n\n"
     "Adds a kind of linear mixer made of Python functions, for the life of the process. x [rows,d] holds the normed\n"
     "input of several sequences one after the other, `lengths` [n_seq] cuts it; params is a dict of arrays.\n\n"
     "    parameters(config) -> {name: shape}             of one layer; asked once a model shape\n"
     "    init(rng, config, softmax_weights) -> params    q_proj.weight [heads*head_dim,d], k_proj, v_proj, o_proj, "
     "biases\n"
     "    forward(params, x, lengths) -> (y [rows,d], saved)\n"
     "    vjp(params, saved, dy [rows,d]) -> (dx [rows,d], dparams)\n"
     "    step(params, state [n_seq,*shape], x [n_seq,d]) -> (y [n_seq,d], state)    one token; None: cannot decode\n"
     "    state(config) -> shape of one sequence's state, zero at its start\n\n"
     "Arrays are float32; those passed in are views of the core's memory, read-only and gone after the call: keep a "
     "copy.\n"
     "bidirectional: a token sees its whole sequence, so the kind serves bidirectional models and no causal ones.\n"
     "summary, phrase and align_lr are what mixers() says of the kind.\n"
     "forward runs again before vjp. Exceptions come out of the call that ran the mixer; the functions must not use\n"
     "the model that runs them. Raises ValueError for a name that is taken."},
    {"set_num_threads", set_num_threads, METH_O,
     "set_num_threads(n, /)\n--\n\nThreads of every parallel region, 1 to 1024; returns what is in force."},
    {"request_stop", ha_request_stop, METH_NOARGS,
     "request_stop()\n--\n\nAsk the work of this thread to stop with KeyboardInterrupt, from a signal handler. "
     "False when it was asked already."},
    {"take_stop", ha_take_stop, METH_NOARGS,
     "take_stop()\n--\n\nWhether this thread was asked to stop; the request is then gone."},
    {"pack", (PyCFunction)(void (*)(void))ha_pack_matrix, METH_VARARGS | METH_KEYWORDS,
     "pack(matrix, dtype, factor=None)\n--\n\nfloat32 [rows, columns] in a storage type ('float32', 'bfloat16', "
     "'float16', 'q8_0', "
     "'q4_0', 'q4_1'), uint8 [rows, bytes]. The block types are GGML's, 32 numbers a block, rounded as its reference "
     "does. factor, float32 [columns, columns], upper triangular: U of H^-1 = U^T U for the moments H of what the "
     "matrix is multiplied with; errors are then made up for by later columns (GPTQ, arXiv 2210.17323)."},
    {"unpack", (PyCFunction)(void (*)(void))ha_unpack_matrix, METH_VARARGS | METH_KEYWORDS,
     "unpack(data, dtype)\n--\n\nThe float32 numbers [rows, columns] of uint8 data [rows, bytes]."},
    {"get_num_threads", get_num_threads, METH_NOARGS, "get_num_threads()\n--\n\nThreads of every parallel region."},
    {0},
};

/* What the environment asks for: an error for our own variables, a warning for one that others read
 * too. */
static int check_environment(void)
{
    if (ha_threads_check() != HA_OK || ha_kernels_check() != HA_OK || ha_blas_check() != HA_OK) {
        PyErr_SetString(PyExc_ValueError, ha_error_message());
        return -1;
    }
    const char *warning = ha_threads_warning();
    return warning ? PyErr_WarnEx(PyExc_RuntimeWarning, warning, 1) : 0;
}

/* Fills a new module. */
static int execute(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    if (check_environment() < 0)
        return -1;
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    if (ha_add_tensor(module, state) < 0 || ha_add_model(module, state) < 0 || ha_add_cache(module, state) < 0 ||
        ha_add_scorer(module, state) < 0 || ha_add_distiller(module, state) < 0 || ha_add_ops(module) < 0 ||
        ha_add_reference(module) < 0)
        return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    /* NumPy's C API is per process. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

/* What the interpreter calls on import. */
PyMODINIT_FUNC PyInit__core(void)
{
    return ha_state_define(methods, slots);
}
