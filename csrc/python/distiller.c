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
        {"micro_batch", o->micro_batch, o->micro_batch >= 1},
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
    ha_train_options o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f, .micro_batch = 1};
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
    if (t && (t->model->config.vocab_size != s->model->config.vocab_size ||
              t->model->config.hidden_size != s->model->config.hidden_size))
        return PyErr_Format(PyExc_ValueError, "teacher and student differ: vocab_size %d and %d, hidden_size %d and %d",
                            t->model->config.vocab_size, s->model->config.vocab_size, t->model->config.hidden_size,
                            s->model->config.hidden_size);
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

/* Steps start .. stop - 1 of the arrays windows [steps, batch, 2] and lr [steps, 2]. */
static int steps(distiller_object *self, const windows_arg *w, PyArrayObject *lr, PyArrayObject *hidden, int64_t start,
                 int64_t stop, PyArrayObject *losses, PyObject *callback)
{
    const npy_intp batch = PyArray_DIM(w->windows, 1), columns = PyArray_DIM(losses, 1);
    const ha_interrupt check = {ha_poll_signals, NULL};
    int64_t tokens = 0;
    for (int64_t i = start; i < stop; i++) {
        const ha_windows part = {w->view.token, w->view.window + i * batch * 2, (int)batch, w->view.vocabulary};
        const float *rate = (const float *)PyArray_DATA(lr) + 2 * i;
        const float by_group[2] = {[HA_GROUP_MIXER] = rate[0], [HA_GROUP_REST] = rate[1]};
        double *loss = (double *)PyArray_DATA(losses) + (i - start) * columns, norm = 0.0;
        ha_status status;
        HA_BEGIN_CORE(status, self->student, self->teacher)
        status = ha_trainer_step(self->trainer, &part, by_group, hidden ? PyArray_DATA(hidden) : NULL,
                                 &self->student->arena, &check, loss, &norm);
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

static PyObject *run(distiller_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tokens", "windows", "lr", "start", "stop", "teacher_hidden", "callback", NULL};
    PyObject *tokens, *windows, *lr_object, *hidden_object = Py_None, *callback = Py_None;
    long long start, stop;
    windows_arg w;
    PyArrayObject *lr = NULL, *hidden = NULL, *losses = NULL;
    const ha_config *c = &self->student->model->config;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOLL|OO:run", names, &tokens, &windows, &lr_object, &start, &stop,
                                     &hidden_object, &callback))
        return NULL;
    if (ha_windows_parse(self->student, tokens, windows, self->stage == HA_STAGE_FINETUNE ? 2 : 1, &w) < 0)
        return NULL;
    if (PyArray_NDIM(w.windows) != 3 || PyArray_DIM(w.windows, 1) < 1) {
        PyErr_SetString(PyExc_ValueError, "windows must have shape [steps, batch, 2]");
        goto fail;
    }
    npy_intp total = PyArray_DIM(w.windows, 0), lr_shape[2] = {total, 2},
             hidden_shape[2] = {PyArray_DIM(w.tokens, 0), c->hidden_size};
    if (start < 0 || stop < start || stop > total) {
        PyErr_Format(PyExc_ValueError, "steps %lld to %lld, allowed are 0 to %zd", start, stop, (Py_ssize_t)total);
        goto fail;
    }
    if (callback != Py_None && !PyCallable_Check(callback)) {
        PyErr_SetString(PyExc_TypeError, "callback must be callable");
        goto fail;
    }
    npy_intp out_shape[2] = {(npy_intp)(stop - start), self->stage == HA_STAGE_ALIGN ? c->num_layers : 1};
    if (!(lr = lr_of(lr_object, lr_shape)))
        goto fail;
    if (hidden_object != Py_None &&
        !(hidden = ha_array_arg(hidden_object, "teacher_hidden", NPY_FLOAT32, 2, hidden_shape)))
        goto fail;
    losses = (PyArrayObject *)PyArray_ZEROS(2, out_shape, NPY_FLOAT64, 0);
    if (losses && steps(self, &w, lr, hidden, start, stop, losses, callback) < 0)
        Py_CLEAR(losses);
fail:
    Py_XDECREF(lr);
    Py_XDECREF(hidden);
    ha_windows_clear(&w);
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
     "run($self, tokens, windows, lr, start, stop, teacher_hidden=None, callback=None)\n--\n\n"
     "Optimizer steps start .. stop - 1; returns losses, float64 [stop - start, 1], mean per token, or [.., "
     "num_layers] when aligning.\n\n"
     "tokens: int32 [n]; windows: int64 [steps, batch, 2]; lr: float32 [steps, 2], of the mixers and of the rest.\n"
     "teacher_hidden: float32 [n, hidden_size] as Model.forward_windows writes it. callback(step, loss, grad_norm, "
     "tokens) after\n"
     "each step. Ctrl-C is honoured inside a step and leaves model and `step` as after the last whole one."},
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
    {Py_tp_doc, "Distiller(student, teacher=None, stage='align', betas=(0.9, 0.95), eps=1e-08, weight_decay=0.0, "
                "clip=1.0, micro_batch=1, layers=None, recompute=False)\n--\n\n"
                "One step of RADLADS (arXiv 2505.03005): 'align' trains the linear mixers of a probe to imitate its "
                "softmax mixers,\n"
                "'distill' minimises KL(teacher || student), 'finetune' the next-token cross-entropy; AdamW, gradients "
                "clipped to norm\n"
                "`clip` (0: not; layer by layer when aligning), `micro_batch` sequences in memory at a time. "
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
