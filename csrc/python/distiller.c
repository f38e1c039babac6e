/* class Distiller: the training loop of one RADLADS step.
 *     __init__(student, teacher, stage, ...)    see distiller_options.c
 *     run                                       see distiller_run.c
 *     arena, blocks, gradients, ..              the parts of a step, see distiller_parts.c
 *     step, moments, trainable
 */
#include "python/distiller.h"

#include "python/distiller_object.h"
#include "python/distiller_options.h"
#include "python/distiller_parts.h"
#include "python/distiller_rehearsal.h"
#include "python/distiller_run.h"
#include "python/raise.h"
#include "python/tensor_memory.h"

/* 0 when stage, layers, student and teacher fit each other, else -1 with a ValueError. layers: as
 * passed. */
static int check_stage(const ha_train_options *options, const char *stage, PyObject *layers,
                       const model_object *student, const model_object *teacher)
{
    if (options->stage != HA_STAGE_ALIGN && layers != Py_None)
        PyErr_Format(PyExc_ValueError, "layers is given for stage %s, allowed for stage align only", stage);
    else if (options->stage == HA_STAGE_DISTILL && !teacher)
        PyErr_SetString(PyExc_ValueError, "stage distill needs a teacher");
    else if (options->stage == HA_STAGE_FINETUNE && ha_distance_of(student->model) == HA_DISTANCE_HIDDEN)
        PyErr_SetString(PyExc_ValueError, "stage finetune needs an LM head or the head of a task");
    else
        return 0;
    return -1;
}

/* Distiller(student, teacher=None, stage="align", ...) */
static PyObject *distiller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"student",      "teacher",   "stage",       "betas",  "eps",
                            "weight_decay", "clip",      "micro_batch", "layers", "recompute",
                            "moments",      "head_rows", NULL};
    PyObject *student_given, *teacher_given = Py_None, *layers = Py_None, *recompute = Py_False;
    const char *stage = "align", *moments = "float32";
    ha_train_options options = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f};
    uint8_t *flags = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Os(ff)fffiOOsi:Distiller", names, &student_given, &teacher_given,
                                     &stage, &options.beta1, &options.beta2, &options.eps, &options.weight_decay,
                                     &options.clip, &options.micro_batch, &layers, &recompute, &moments,
                                     &options.piece))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *student = state ? ha_model_arg(state, student_given, "student") : NULL, *teacher;
    if (!student || ha_teacher_arg(state, teacher_given, student, "student", &teacher) < 0 ||
        ha_stage_parse(stage, &options.stage) < 0 || ha_moments_parse(moments, &options.moments) < 0 ||
        ha_recompute_parse(recompute, student->model->config.num_layers, &options.recompute) < 0 ||
        ha_train_options_check(&options) < 0 || check_stage(&options, stage, layers, student, teacher) < 0)
        return NULL;
    if (options.stage == HA_STAGE_ALIGN && ha_align_layers_parse(student->model, layers, &flags) < 0) {
        PyMem_Free(flags);
        return NULL;
    }
    distiller_object *self = (distiller_object *)type->tp_alloc(type, 0);
    if (self) {
        self->student = (model_object *)Py_NewRef(student);
        self->teacher = (model_object *)Py_XNewRef(teacher);
        self->stage = options.stage;
        const ha_status status =
            ha_trainer_new(student->model, teacher ? teacher->model : NULL, &options, flags, &self->trainer);
        if (status != HA_OK) {
            Py_CLEAR(self);
            ha_raise(status);
        }
    }
    PyMem_Free(flags);
    return (PyObject *)self;
}

static int traverse(distiller_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->student);
    Py_VISIT(self->teacher);
    return 0;
}

static void dealloc(distiller_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ha_trainer_free(self->trainer);
    Py_XDECREF(self->student);
    Py_XDECREF(self->teacher);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Distiller.moments(): {"m": {name: view}, "v": {name: view}} */
static PyObject *moments(distiller_object *self, PyObject *unused)
{
    (void)unused;
    const ha_params *params = &self->student->model->params;
    module_state *state = ha_state_of(Py_TYPE(self));
    PyObject *result = state ? PyDict_New() : NULL;
    for (int second = 0; result && second < 2; second++) {
        PyObject *views = PyDict_New();
        for (int i = 0; views && i < params->count; i++) {
            if (!ha_trainer_trains(self->trainer, i))
                continue;
            const ha_param *param = &params->list[i];
            PyObject *view =
                ha_tensor_view(state, (PyObject *)self, ha_trainer_moments(self->trainer),
                               ha_trainer_moment(self->trainer, second, param->offset), param->ndim, param->shape);
            if (!view || PyDict_SetItemString(views, param->name, view) < 0)
                Py_CLEAR(views);
            Py_XDECREF(view);
        }
        if (!views || PyDict_SetItemString(result, second ? "v" : "m", views) < 0)
            Py_CLEAR(result);
        Py_XDECREF(views);
    }
    return result;
}

/* Distiller.trainable(): names of the trained parameters */
static PyObject *trainable(distiller_object *self, PyObject *unused)
{
    (void)unused;
    const ha_params *params = &self->student->model->params;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < params->count; i++) {
        if (!ha_trainer_trains(self->trainer, i))
            continue;
        PyObject *name = PyUnicode_FromString(params->list[i].name);
        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* Steps so far. */
static PyObject *get_step(distiller_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(ha_trainer_steps(self->trainer));
}

/* Sets the steps so far; -1 with a ValueError when there are less than none. */
static int set_step(distiller_object *self, PyObject *value, void *closure)
{
    (void)closure;
    long long step = value ? PyLong_AsLongLong(value) : -1;
    if (step < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "step must not be negative");
        return -1;
    }
    ha_trainer_set_steps(self->trainer, step);
    return 0;
}

/* Stages of backward passes so far, asked without the model's lock. */
static PyObject *get_finished(distiller_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(ha_trainer_finished(self->trainer));
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))ha_distiller_run, METH_VARARGS | METH_KEYWORDS,
     "run($self, tokens, windows, lr, start, stop, teacher_hidden=None, callback=None, weights=None, "
     "labels=None, segments=None, losses=None)\n--\n\n"
     "Optimizer steps start .. stop - 1; returns losses, float64 [stop - start, 1], mean per token, or [.., "
     "num_layers] when aligning.\n\n"
     "tokens: int32 [n]; windows: int64 [steps, batch, 2]; lr: float32 [steps, 2], of the mixers and of the rest.\n"
     "teacher_hidden: float32 [n, hidden_size] as Model.forward_windows writes it. callback(step, loss, grad_norm, "
     "tokens) after\n"
     "each step. weights: float32 [n], for stages distill and finetune: as KLScorer.kl takes them. labels, for stage "
     "finetune of a model "
     "with a task: int32 [steps, batch, 1] classes, float32 [steps, batch, num_labels] values, or int32 [steps, batch, "
     "2] "
     "first and last token of a span.\n"
     "segments: int32 [n], token types of models that have them; None: all 0.\n"
     "losses: an array to return them in, of whole steps also when the run is interrupted.\n"
     "Ctrl-C is honoured inside a step and leaves model and `step` as after the last whole one."},
    {"arena", (PyCFunction)ha_distiller_arena, METH_O,
     "arena($self, name, /)\n--\n\nTensor float32 [n], a view: 'weights' of the student, or AdamW's moments 'm' and "
     "'v', "
     "one after the other as they are in memory."},
    {"blocks", (PyCFunction)ha_distiller_blocks, METH_NOARGS,
     "blocks($self)\n--\n\nint64 [blocks + 1]: where each block of trained parameters starts in the arena, and where "
     "the last one ends. They depend on the model and the trained layers alone."},
    {"stages", (PyCFunction)ha_distiller_stages, METH_NOARGS,
     "stages($self)\n--\n\nint64 [blocks]: the backward pass of gradients ends in num_layers + 2 stages: 0 is what is "
     "behind the layers, then come the layers from the last down, then embeddings. A block's gradient is final with "
     "this stage."},
    {"gradients", (PyCFunction)(void (*)(void))ha_distiller_gradients, METH_VARARGS | METH_KEYWORDS,
     "gradients($self, tokens, windows, first, stop, grads, teacher_hidden=None, weights=None, labels=None, "
     "segments=None)\n--\n\n"
     "Add to grads, float32 [n] like the arena, the part that windows first .. stop - 1 have in the gradient of a "
     "step's mean loss; returns their part of the loss. windows: int64 [1, batch, 2]; the others as for run. Not for "
     "stage align. After an error grads is of no use."},
    {"fold", (PyCFunction)ha_distiller_fold, METH_VARARGS,
     "fold($self, sum, more, /)\n--\n\nsum += more, and more = 0, where parameters are trained; both like the arena."},
    {"squares", (PyCFunction)ha_distiller_squares, METH_VARARGS,
     "squares($self, grads, first, stop, /)\n--\n\nfloat64 [stop - first]: sums of squares of those blocks. Their sum "
     "over all blocks, in order, is the squared norm that run clips by."},
    {"update", (PyCFunction)ha_distiller_update, METH_VARARGS,
     "update($self, grads, first, stop, norm, lr, /)\n--\n\nAdamW's step number `step` + 1 on those blocks, clipped by "
     "the norm of all; lr: rates of mixers and of the rest. Their gradients become 0. `step` is the caller's to "
     "raise."},
    {"align_part", (PyCFunction)(void (*)(void))ha_distiller_align_part, METH_VARARGS | METH_KEYWORDS,
     "align_part($self, tokens, windows, lr, first, stop, incoming, outgoing, segments=None)\n--\n\n"
     "One optimizer step of stage align that goes through layers first .. stop - 1 only; returns losses, float64 "
     "[num_layers].\n\n"
     "windows: int64 [1, batch, 2]; lr: float32 [1, 2]. incoming: float32 [tokens, hidden_size], the teacher's stream "
     "in "
     "front of layer `first`, None for layer 0; outgoing: an array for that behind layer stop - 1, or None. `layers` "
     "of "
     "the Distiller that lie outside do not change."},
    {"rehearse", (PyCFunction)(void (*)(void))ha_distiller_rehearse, METH_VARARGS | METH_KEYWORDS,
     "rehearse($self, tokens, windows, teacher_hidden=None, weights=None, segments=None)\n--\n\n"
     "(peak, kept): bytes of temporaries of windows [1, batch, 2] as one micro-batch with every layer recomputed, and "
     "uintp [num_layers], how many more each layer takes that is not. Runs it, and leaves model and moments as they "
     "are."},
    {"reserve", (PyCFunction)ha_distiller_reserve, METH_O,
     "reserve($self, bytes, /)\n--\n\nGive temporaries room in one piece."},
    {"moments", (PyCFunction)moments, METH_NOARGS,
     "moments($self)\n--\n\n{'m': {name: Tensor}, 'v': {name: Tensor}}: AdamW's moments of the trained parameters, "
     "writable views."},
    {"trainable", (PyCFunction)trainable, METH_NOARGS, "trainable($self)\n--\n\nNames of the trained parameters."},
    {0},
};

static PyGetSetDef getset[] = {
    {"finished", (getter)get_finished, NULL,
     "Stages of backward passes (see stages) that were the last of their call to add to the gradient, counted over all "
     "calls. Another thread may read it, and what is final, while gradients is at work.",
     NULL},
    {"step", (getter)get_step, (setter)set_step, "Completed steps, the count behind AdamW's bias correction.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc,
     "Distiller(student, teacher=None, stage='align', betas=(0.9, 0.95), eps=1e-08, weight_decay=0.0, "
     "clip=1.0, micro_batch=0, layers=None, recompute=False, moments='float32', head_rows=0)\n--\n\n"
     "One step of RADLADS (arXiv 2505.03005): 'align' trains the linear mixers of a probe to imitate its "
     "softmax mixers,\n"
     "'distill' minimises the distance that KLScorer.measure names, KL(teacher || student) for language models; "
     "'finetune' the next-token cross-entropy, or the loss of the model's task against labels; AdamW, gradients "
     "clipped to norm\n"
     "`clip` (0: not; layer by layer when aligning), `micro_batch` sequences in memory at a time, or (0) as many as "
     "make up 512 tokens. "
     "`recompute` runs each layer, or the first so many, again in the backward pass: less memory, the same "
     "gradients. "
     "`moments`: how AdamW's are kept, 'float32' or 'bfloat16', to which they are rounded stochastically. `head_rows`: "
     "of stage distill, tokens whose "
     "logits are in memory together; 0: as many as are fast."},
    {Py_tp_new, distiller_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec type_spec = {"hybridattn._core.Distiller", sizeof(distiller_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, type_slots};

int ha_add_distiller(PyObject *module, module_state *state)
{
    state->distiller = (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
    return state->distiller ? PyModule_AddType(module, state->distiller) : -1;
}
