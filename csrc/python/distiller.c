/* class Distiller: the training loop of one RADLADS step. run, step, moments, trainable. */
#include "python/objects.h"

#include <math.h>

typedef struct {
    PyObject_HEAD model_object *student, *teacher;
    ha_trainer *trainer;
    ha_stage stage;
} distiller_object;

static int parse_stage(const char *name, ha_stage *stage)
{
    static const char *const names[] = {"align", "distill", "finetune"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *stage = (ha_stage)i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "stage is '%s', allowed are align, distill and finetune", name);
    return -1;
}

/* layers: None, or the layer numbers to align, each with both mixers; *out [num_layers] flags, to be freed. */
static int parse_layers(const ha_model *m, PyObject *object, uint8_t **out)
{
    *out = PyMem_Calloc((size_t)m->config.num_layers, 1);
    if (!*out) {
        PyErr_NoMemory();
        return -1;
    }
    int all = object == Py_None, any = 0;
    PyObject *list = all ? NULL : ha_tuple_arg(object, "layers", "a sequence of layer numbers");
    if (!all && !list)
        return -1;
    for (Py_ssize_t i = 0; list && i < PyTuple_GET_SIZE(list); i++) {
        long l = PyLong_AsLong(PyTuple_GET_ITEM(list, i));
        if (!PyErr_Occurred() && (l < 0 || l >= m->config.num_layers))
            PyErr_Format(PyExc_ValueError, "layers[%zd] is %ld, allowed are 0 to %d", i, l, m->config.num_layers - 1);
        if (PyErr_Occurred()) {
            Py_DECREF(list);
            return -1;
        }
        (*out)[l] = 1;
    }
    Py_XDECREF(list);
    for (int l = 0; l < m->config.num_layers; l++) {
        int both = m->layer[l].softmax.kind && m->layer[l].linear.kind;
        if ((*out)[l] && !both) {
            PyErr_Format(PyExc_ValueError, "layer %d has only one mixer: align needs a probe", l);
            return -1;
        }
        (*out)[l] |= all && both;
        any |= (*out)[l];
    }
    if (!any)
        PyErr_SetString(PyExc_ValueError, "no layer to align: align needs a probe, whose layers have both mixers");
    return any ? 0 : -1;
}

static int check_options(const ha_train_options *o)
{
    const struct {
        const char *name;
        double value;
        int ok;
    } rules[] = {
        {"betas[0]", (double)o->beta1, o->beta1 >= 0.0f && o->beta1 < 1.0f},
        {"betas[1]", (double)o->beta2, o->beta2 >= 0.0f && o->beta2 < 1.0f},
        {"eps", (double)o->eps, o->eps > 0.0f && o->eps < INFINITY},
        {"weight_decay", (double)o->weight_decay, o->weight_decay >= 0.0f && o->weight_decay < INFINITY},
        {"clip", (double)o->clip, o->clip >= 0.0f && o->clip < INFINITY},
        {"micro_batch", o->micro_batch, o->micro_batch >= 0},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].ok) {
            PyObject *value = PyFloat_FromDouble(rules[i].value);
            PyErr_Format(PyExc_ValueError, "%s is %R, out of its range", rules[i].name, value);
            Py_XDECREF(value);
            return -1;
        }
    return 0;
}

static PyObject *distiller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"student", "teacher",     "stage",  "betas",     "eps", "weight_decay",
                            "clip",    "micro_batch", "layers", "recompute", NULL};
    PyObject *student, *teacher = Py_None, *layers = Py_None;
    const char *stage_name = "align";
    ha_train_options o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f};
    uint8_t *flags = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Os(ff)fffiOp:Distiller", names, &student, &teacher, &stage_name,
                                     &o.beta1, &o.beta2, &o.eps, &o.weight_decay, &o.clip, &o.micro_batch, &layers,
                                     &o.recompute))
        return NULL;
    module_state *state = ha_state_of(type);
    model_object *s = state ? ha_model_arg(state, student, "student") : NULL;
    model_object *t = !s || teacher == Py_None ? NULL : ha_model_arg(state, teacher, "teacher");
    if (!s || (teacher != Py_None && !t) || parse_stage(stage_name, &o.stage) < 0 || check_options(&o) < 0)
        return NULL;
    if (o.stage != HA_STAGE_ALIGN && layers != Py_None)
        return PyErr_Format(PyExc_ValueError, "layers is given for stage %s, allowed for stage align only", stage_name);
    if (o.stage == HA_STAGE_DISTILL && !t)
        return PyErr_Format(PyExc_ValueError, "stage distill needs a teacher");
    if (t && ha_comparable(t, s, "student") < 0)
        return NULL;
    if (o.stage == HA_STAGE_FINETUNE && ha_distance_of(s->model) == HA_DISTANCE_HIDDEN)
        return PyErr_Format(PyExc_ValueError, "stage finetune needs an LM head or the head of a task");
    if (o.stage == HA_STAGE_ALIGN && parse_layers(s->model, layers, &flags) < 0) {
        PyMem_Free(flags);
        return NULL;
    }
    distiller_object *self = (distiller_object *)type->tp_alloc(type, 0);
    if (self) {
        Py_INCREF(s);
        Py_XINCREF(t);
        self->student = s;
        self->teacher = t;
        self->stage = o.stage;
        ha_status status = ha_trainer_new(s->model, t ? t->model : NULL, &o, flags, &self->trainer);
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

static int report(PyObject *callback, int64_t step, const double *loss, int n, double norm, int64_t tokens)
{
    double mean = 0.0;
    int terms = 0;
    for (int i = 0; i < n; i++)
        if (loss[i] != 0.0) { /* layers that are not trained report 0 */
            mean += loss[i];
            terms++;
        }
    PyObject *result =
        PyObject_CallFunction(callback, "LddL", (long long)step, terms ? mean / terms : 0.0, norm, (long long)tokens);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* What a run is given, checked: lr [steps, 2], hidden [n, hidden_size], weights [n], labels [steps, batch, k]. */
typedef struct {
    windows_arg w;
    PyArrayObject *lr, *hidden, *weights, *labels;
} run_arg;

static void clear(run_arg *r)
{
    Py_CLEAR(r->lr);
    Py_CLEAR(r->hidden);
    Py_CLEAR(r->weights);
    Py_CLEAR(r->labels);
    ha_windows_clear(&r->w);
}

static ha_train_data data_of(const distiller_object *self, const run_arg *r, int64_t step)
{
    const ha_task *task = &self->student->model->config.task;
    ha_train_data given = {.teacher_hidden = r->hidden ? PyArray_DATA(r->hidden) : NULL,
                           .weight = r->weights ? PyArray_DATA(r->weights) : NULL};
    if (r->labels) {
        const npy_intp at = step * PyArray_DIM(r->labels, 1) * PyArray_DIM(r->labels, 2);
        if (task->kind == HA_TASK_REGRESS)
            given.labels.value = (const float *)PyArray_DATA(r->labels) + at;
        else
            given.labels.target = (const int32_t *)PyArray_DATA(r->labels) + at;
    }
    return given;
}

/* Steps start .. stop - 1 of windows [steps, batch, 2]. */
static int steps(distiller_object *self, const run_arg *r, int64_t start, int64_t stop, PyArrayObject *losses,
                 PyObject *callback)
{
    const npy_intp batch = PyArray_DIM(r->w.windows, 1), columns = PyArray_DIM(losses, 1);
    const ha_interrupt check = {ha_poll_signals, NULL};
    int64_t tokens = 0;
    for (int64_t i = start; i < stop; i++) {
        const ha_windows part = {r->w.view.token, r->w.view.window + i * batch * 2, (int)batch, r->w.view.vocabulary,
                                 r->w.view.segment};
        const ha_train_data given = data_of(self, r, i);
        const float *rate = (const float *)PyArray_DATA(r->lr) + 2 * i;
        const float by_group[2] = {[HA_GROUP_MIXER] = rate[0], [HA_GROUP_REST] = rate[1]};
        double *loss = (double *)PyArray_DATA(losses) + (i - start) * columns, norm = 0.0;
        memset(loss, 0, (size_t)columns * sizeof *loss);
        ha_status status;
        HA_BEGIN_CORE(status, self->student, self->teacher)
        status = ha_trainer_step(self->trainer, &part, by_group, &given, &self->student->arena, &check, loss, &norm);
        HA_END_CORE(self->student, self->teacher)
        if (status != HA_OK) {
            ha_raise(status);
            return -1;
        }
        for (npy_intp b = 0; b < batch; b++)
            tokens += part.window[2 * b + 1] - part.window[2 * b];
        if (callback != Py_None && report(callback, i, loss, (int)columns, norm, tokens) < 0)
            return -1;
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

/* A copy, which a callback cannot change, of rates that are finite and not negative. */
static PyArrayObject *lr_of(PyObject *object, const npy_intp shape[2])
{
    PyArrayObject *given = ha_array_arg(object, "lr", NPY_FLOAT32, 2, shape);
    PyArrayObject *lr = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    for (npy_intp i = 0; lr && i < 2 * shape[0]; i++) {
        float rate = ((const float *)PyArray_DATA(lr))[i];
        if (!(rate >= 0.0f && rate < INFINITY)) {
            PyObject *value = PyFloat_FromDouble((double)rate);
            PyErr_Format(PyExc_ValueError, "lr[%zd, %d] is %R, allowed are finite numbers from 0 on",
                         (Py_ssize_t)(i / 2), (int)(i % 2), value);
            Py_XDECREF(value);
            Py_CLEAR(lr);
        }
    }
    return lr;
}

/* One label of window `at`: a class below `labels`, finite values, or a start and an end (included) inside the window. */
static int check_label(const ha_task *task, const run_arg *r, npy_intp at)
{
    const npy_intp batch = PyArray_DIM(r->labels, 1);
    const Py_ssize_t i = (Py_ssize_t)(at / batch), j = (Py_ssize_t)(at % batch);
    const int32_t *target = (const int32_t *)PyArray_DATA(r->labels) + (task->kind == HA_TASK_SPAN ? 2 * at : at);
    const float *value = (const float *)PyArray_DATA(r->labels) + at * task->labels;
    const int64_t length = r->w.view.window[2 * at + 1] - r->w.view.window[2 * at];
    for (int k = 0; task->kind == HA_TASK_REGRESS && k < task->labels; k++)
        if (!isfinite(value[k])) {
            PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is not a finite number", i, j);
            return -1;
        }
    if (task->kind == HA_TASK_CLASSIFY && (target[0] < 0 || target[0] >= task->labels)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is %d, allowed are 0 to %d", i, j, target[0],
                     task->labels - 1);
        return -1;
    }
    if (task->kind == HA_TASK_SPAN && !(target[0] >= 0 && target[0] <= target[1] && target[1] < length)) {
        PyErr_Format(PyExc_ValueError, "labels[%zd, %zd] is the span %d to %d, allowed are 0 <= first <= last < %lld",
                     i, j, target[0], target[1], (long long)length);
        return -1;
    }
    return 0;
}

/* A copy of labels [steps, batch, k], or NULL with an exception. */
static PyArrayObject *labels_of(const distiller_object *self, const run_arg *r, PyObject *object)
{
    const ha_task *task = &self->student->model->config.task;
    const npy_intp shape[3] = {PyArray_DIM(r->w.windows, 0), PyArray_DIM(r->w.windows, 1),
                               task->kind == HA_TASK_CLASSIFY ? 1 : task->labels};
    const int type = task->kind == HA_TASK_REGRESS ? NPY_FLOAT32 : NPY_INT32;
    PyArrayObject *given = ha_array_arg(object, "labels", type, 3, shape);
    PyArrayObject *labels = given ? (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER) : NULL;
    Py_XDECREF(given);
    return labels;
}

static int parse_run(const distiller_object *self, PyObject *lr, PyObject *hidden, PyObject *weights, PyObject *labels,
                     run_arg *r)
{
    const ha_config *c = &self->student->model->config;
    const npy_intp lr_shape[2] = {PyArray_DIM(r->w.windows, 0), 2},
                   hidden_shape[2] = {PyArray_DIM(r->w.tokens, 0), c->hidden_size};
    const int wants = self->stage == HA_STAGE_FINETUNE && c->task.kind != HA_TASK_NONE;
    if (wants != (labels != Py_None)) {
        PyErr_SetString(PyExc_ValueError, wants ? "labels is None: stage finetune of a model with a task needs them"
                                                : "labels are for stage finetune of a model with a task");
        return -1;
    }
    if (weights != Py_None && self->stage != HA_STAGE_DISTILL) {
        PyErr_SetString(PyExc_ValueError, "weights are for stage distill");
        return -1;
    }
    if (!(r->lr = lr_of(lr, lr_shape)) ||
        (hidden != Py_None && !(r->hidden = ha_array_arg(hidden, "teacher_hidden", NPY_FLOAT32, 2, hidden_shape))) ||
        (weights != Py_None && !(r->weights = ha_weights_parse(self->student, &r->w, weights))) ||
        (wants && !(r->labels = labels_of(self, r, labels))))
        return -1;
    for (npy_intp i = 0; wants && i < r->w.view.count; i++)
        if (check_label(&c->task, r, i) < 0)
            return -1;
    return 0;
}

static PyObject *run(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens",   "windows", "lr",     "start",    "stop",   "teacher_hidden",
                            "callback", "weights", "labels", "segments", "losses", NULL};
    PyObject *tokens, *windows, *lr, *hidden = Py_None, *callback = Py_None, *weights = Py_None, *labels = Py_None,
                                     *segments = Py_None, *table = Py_None;
    long long start, stop;
    run_arg r = {0};
    PyArrayObject *losses = NULL;
    const ha_config *c = &self->student->model->config;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOLL|OOOOOO:run", names, &tokens, &windows, &lr, &start, &stop,
                                     &hidden, &callback, &weights, &labels, &segments, &table))
        return NULL;
    const int shortest = self->stage == HA_STAGE_FINETUNE && c->task.kind == HA_TASK_NONE ? 2 : 1;
    if (ha_windows_parse(self->student, tokens, windows, segments, shortest, &r.w) < 0)
        return NULL;
    if (PyArray_NDIM(r.w.windows) != 3 || PyArray_DIM(r.w.windows, 1) < 1) {
        PyErr_SetString(PyExc_ValueError, "windows must have shape [steps, batch, 2]");
        goto fail;
    }
    npy_intp total = PyArray_DIM(r.w.windows, 0);
    if (start < 0 || stop < start || stop > total) {
        PyErr_Format(PyExc_ValueError, "steps %lld to %lld, allowed are 0 to %zd", start, stop, (Py_ssize_t)total);
        goto fail;
    }
    if (callback != Py_None && !PyCallable_Check(callback)) {
        PyErr_SetString(PyExc_TypeError, "callback must be callable");
        goto fail;
    }
    if (parse_run(self, lr, hidden, weights, labels, &r) < 0)
        goto fail;
    npy_intp out_shape[2] = {(npy_intp)(stop - start), self->stage == HA_STAGE_ALIGN ? c->num_layers : 1};
    losses = table == Py_None ? (PyArrayObject *)PyArray_SimpleNew(2, out_shape, NPY_FLOAT64)
                              : ha_array_out(table, "losses", NPY_FLOAT64, 2, out_shape);
    if (losses && steps(self, &r, start, stop, losses, callback) < 0)
        Py_CLEAR(losses);
fail:
    clear(&r);
    return (PyObject *)losses;
}

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
            const ha_param *p = &params->list[i];
            PyObject *view = ha_tensor_view(state, (PyObject *)self,
                                            ha_trainer_moment(self->trainer, second) + p->offset, p->ndim, p->shape);
            if (!view || PyDict_SetItemString(views, p->name, view) < 0)
                Py_CLEAR(views);
            Py_XDECREF(view);
        }
        if (!views || PyDict_SetItemString(result, second ? "v" : "m", views) < 0)
            Py_CLEAR(result);
        Py_XDECREF(views);
    }
    return result;
}

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

static PyObject *get_step(distiller_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(ha_trainer_steps(self->trainer));
}

static int set_step(distiller_object *self, PyObject *value, void *closure)
{
    (void)closure;
    long long n = value ? PyLong_AsLongLong(value) : -1;
    if (n < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "step must not be negative");
        return -1;
    }
    ha_trainer_set_steps(self->trainer, n);
    return 0;
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))run, METH_VARARGS | METH_KEYWORDS,
     "run($self, tokens, windows, lr, start, stop, teacher_hidden=None, callback=None, weights=None, "
     "labels=None, segments=None, losses=None)\n--\n\n"
     "Optimizer steps start .. stop - 1; returns losses, float64 [stop - start, 1], mean per token, or [.., "
     "num_layers] when aligning.\n\n"
     "tokens: int32 [n]; windows: int64 [steps, batch, 2]; lr: float32 [steps, 2], of the mixers and of the rest.\n"
     "teacher_hidden: float32 [n, hidden_size] as Model.forward_windows writes it. callback(step, loss, grad_norm, "
     "tokens) after\n"
     "each step. weights: float32 [n], for stage distill: as KLScorer.kl takes them. labels, for stage finetune of a "
     "model "
     "with a task: int32 [steps, batch, 1] classes, float32 [steps, batch, num_labels] values, or int32 [steps, batch, "
     "2] "
     "first and last token of a span.\n"
     "segments: int32 [n], token types of models that have them; None: all 0.\n"
     "losses: an array to return them in, of whole steps also when the run is interrupted.\n"
     "Ctrl-C is honoured inside a step and leaves model and `step` as after the last whole one."},
    {"moments", (PyCFunction)moments, METH_NOARGS,
     "moments($self)\n--\n\n{'m': {name: Tensor}, 'v': {name: Tensor}}: AdamW's moments of the trained parameters, "
     "writable views."},
    {"trainable", (PyCFunction)trainable, METH_NOARGS, "trainable($self)\n--\n\nNames of the trained parameters."},
    {0},
};

static PyGetSetDef getset[] = {
    {"step", (getter)get_step, (setter)set_step, "Completed steps, the count behind AdamW's bias correction.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc,
     "Distiller(student, teacher=None, stage='align', betas=(0.9, 0.95), eps=1e-08, weight_decay=0.0, "
     "clip=1.0, micro_batch=0, layers=None, recompute=False)\n--\n\n"
     "One step of RADLADS (arXiv 2505.03005): 'align' trains the linear mixers of a probe to imitate its "
     "softmax mixers,\n"
     "'distill' minimises the distance that KLScorer.measure names, KL(teacher || student) for language models; "
     "'finetune' the next-token cross-entropy, or the loss of the model's task against labels; AdamW, gradients "
     "clipped to norm\n"
     "`clip` (0: not; layer by layer when aligning), `micro_batch` sequences in memory at a time, or (0) as many as "
     "make up 512 tokens. "
     "`recompute` runs each layer again in the backward pass: less memory, the same gradients."},
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
