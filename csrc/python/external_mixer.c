/* register_mixer(): a kind of mixer whose functions are Python callables on arrays.
 *
 * The core calls them with the GIL released, from the thread that called the core; they take it. An exception stays
 * pending on that thread and the pass ends as an interrupt does: nothing has changed. The forward pass is made again for
 * the backward pass, so that no Python object outlives a call. Decode state is one float array a sequence, which the
 * cache copies like any other. */
#include "python/external_mixer.h"

#include <ctype.h>

#include "mixers/mixer.h"

enum { MAX_LEAF = 40 };

typedef struct {
    ha_mixer_kind kind; /* first: a mixer's kind leads here */
    char name[MAX_LEAF + 1];
    PyObject *forward, *vjp, *step, *parameters, *init, *state;
    PyObject
        *declared; /* what parameters(config) and state(config) gave: bytes of the config -> (dict, shape or None) */
} external_kind;

static const external_kind *kind_of(const ha_mixer *mixer)
{
    return (const external_kind *)mixer->kind;
}

/* ---- what a mixer declares --------------------------------------------------------------------------------- */

static PyObject *config_dict(const ha_config *c)
{
    return Py_BuildValue("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:d}", "hidden_size", c->hidden_size, "num_layers",
                         c->num_layers, "num_heads", c->num_heads, "num_kv_heads", c->num_kv_heads, "head_dim",
                         c->head_dim, "intermediate_size", c->intermediate_size, "vocab_size", c->vocab_size,
                         "norm_eps", (double)c->norm_eps);
}

/* A shape as a new tuple of 1 to HA_MAX_DIMS positive ints; NULL with an error. */
static PyObject *shape_tuple(const external_kind *kind, const char *what, PyObject *value)
{
    PyObject *shape = PyLong_Check(value) ? PyTuple_Pack(1, value) : PySequence_Tuple(value);
    int good = shape && PyTuple_GET_SIZE(shape) >= 1 && PyTuple_GET_SIZE(shape) <= HA_MAX_DIMS;
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(shape); i++) {
        long n = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
        good = n >= 1 && n <= 1 << 28;
    }
    if (good)
        return shape;
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "mixer %s: %s has shape %R, allowed are 1 to %d positive whole numbers", kind->name,
                 what, value, HA_MAX_DIMS);
    Py_XDECREF(shape);
    return NULL;
}

static int good_name(const char *name, size_t most)
{
    size_t n = name ? strlen(name) : 0;
    int good = n > 0 && n <= most && isalpha((unsigned char)name[0]);
    for (size_t i = 0; good && i < n; i++)
        good = isalnum((unsigned char)name[i]) || name[i] == '_' || (name[i] == '.' && most > MAX_LEAF - 1);
    return good;
}

static PyObject *declare_parameters(const external_kind *kind, PyObject *config)
{
    PyObject *given = PyObject_CallOneArg(kind->parameters, config), *found = PyDict_New(), *name, *value;
    Py_ssize_t at = 0;
    int ok = given && found;
    if (ok && (!PyDict_Check(given) || PyDict_GET_SIZE(given) < 1 || PyDict_GET_SIZE(given) > HA_MAX_SLOTS)) {
        PyErr_Format(PyExc_ValueError, "mixer %s: parameters gave %R, allowed is a dict of 1 to %d names to shapes",
                     kind->name, given, HA_MAX_SLOTS);
        ok = 0;
    }
    while (ok && PyDict_Next(given, &at, &name, &value)) {
        const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        PyObject *shape = NULL;
        if (good_name(text, MAX_LEAF))
            shape = shape_tuple(kind, text, value);
        else
            PyErr_Format(PyExc_ValueError,
                         "mixer %s: a parameter is called %R, allowed are up to %d letters, digits, _ and .",
                         kind->name, name, MAX_LEAF);
        ok = shape && PyDict_SetItem(found, name, shape) == 0;
        Py_XDECREF(shape);
    }
    Py_XDECREF(given);
    if (!ok)
        Py_CLEAR(found);
    return found;
}

/* (parameters, state shape or None) for a model's config, borrowed; asked once and kept. */
static PyObject *declared(const external_kind *kind, const ha_config *c)
{
    const int numbers[] = {c->hidden_size, c->num_layers,        c->num_heads,  c->num_kv_heads,
                           c->head_dim,    c->intermediate_size, c->vocab_size, (int)(c->norm_eps * 1e9f)};
    PyObject *key = PyBytes_FromStringAndSize((const char *)numbers, sizeof numbers), *config = NULL, *entry = NULL,
             *parameters = NULL, *state = NULL, *shape = NULL;
    PyObject *known = key ? PyDict_GetItemWithError(kind->declared, key) : NULL;
    if (known || PyErr_Occurred() || !(config = config_dict(c)))
        goto done;
    parameters = declare_parameters(kind, config);
    state = !parameters ? NULL : kind->state == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(kind->state, config);
    shape = !state || state == Py_None ? Py_XNewRef(state) : shape_tuple(kind, "state", state);
    if (shape && (entry = PyTuple_Pack(2, parameters, shape)) && PyDict_SetItem(kind->declared, key, entry) == 0)
        known = entry;
done:
    Py_XDECREF(key);
    Py_XDECREF(config);
    Py_XDECREF(parameters);
    Py_XDECREF(state);
    Py_XDECREF(shape);
    Py_XDECREF(entry);
    return known;
}

static ha_status declare(ha_mixer *mixer, const char *prefix, int layer, ha_params *params)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *facts = declared(kind_of(mixer), mixer->config), *name, *shape;
    ha_status status = facts ? HA_OK : HA_INTERRUPTED;
    Py_ssize_t at = 0;
    mixer->projections_align = 1;
    for (int i = 0; i < HA_MAX_SLOTS; i++)
        mixer->at[i] = HA_NONE;
    for (int i = 0; status == HA_OK && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        int d[HA_MAX_DIMS] = {0}, ndim = (int)PyTuple_GET_SIZE(shape);
        for (int j = 0; j < ndim; j++)
            d[j] = (int)PyLong_AsLong(PyTuple_GET_ITEM(shape, j));
        status = ha_params_add(params, prefix, PyUnicode_AsUTF8(name), HA_GROUP_MIXER, layer, 1, 0, ndim, d[0], d[1],
                               d[2], &mixer->at[i]);
    }
    PyGILState_Release(gil);
    return status;
}

static size_t shape_floats(PyObject *shape)
{
    size_t n = 1;
    for (Py_ssize_t i = 0; shape != Py_None && i < PyTuple_GET_SIZE(shape); i++)
        n *= (size_t)PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return n;
}

/* One float where there is none: a cache exists, and step tells that it cannot be used. */
static ha_state_shape state_shape(const ha_mixer *mixer)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    size_t n = shape_floats(PyTuple_GET_ITEM(declared(kind_of(mixer), mixer->config), 1));
    PyGILState_Release(gil);
    return (ha_state_shape){.floats = n};
}

static size_t saved_floats(const ha_mixer *mixer, const ha_batch *batch)
{
    (void)mixer, (void)batch;
    return 0;
}

/* Two FLOP a weight and token: what matrices cost, and a guess for the rest. */
static double flops(const ha_mixer *mixer, double context)
{
    double sum = 0.0;
    PyObject *name, *shape;
    Py_ssize_t at = 0;
    (void)context;
    PyGILState_STATE gil = PyGILState_Ensure();
    while (PyDict_Next(PyTuple_GET_ITEM(declared(kind_of(mixer), mixer->config), 0), &at, &name, &shape))
        sum += 2.0 * (double)shape_floats(shape);
    PyGILState_Release(gil);
    return sum;
}

/* ---- arrays ------------------------------------------------------------------------------------------------ */

/* Views of the core's memory that one callback hands out; none may be kept. */
typedef struct {
    PyGILState_STATE gil;
    const external_kind *kind;
    PyObject *views; /* list */
    int failed;
} callback;

static callback begin(const ha_mixer *mixer)
{
    callback call = {.gil = PyGILState_Ensure(), .kind = kind_of(mixer)};
    call.views = PyList_New(0);
    call.failed = !call.views;
    return call;
}

static int kept_views(const callback *call)
{
    int kept = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(call->views); i++)
        kept |= Py_REFCNT(PyList_GET_ITEM(call->views, i)) > 1;
    return kept;
}

static ha_status end(callback *call)
{
    if (!call->failed && kept_views(call)) {
        PyGC_Collect(); /* a cycle may hold them */
        if (kept_views(call)) {
            PyErr_Format(PyExc_RuntimeError, "mixer %s kept an array of the core after its call: keep a copy",
                         call->kind->name);
            call->failed = 1;
        }
    }
    ha_status status = call->failed ? HA_INTERRUPTED : HA_OK;
    Py_XDECREF(call->views);
    PyGILState_Release(call->gil);
    return status;
}

/* A read-only array over memory of the core, owned by call->views; a new reference, NULL after a failure. */
static PyObject *view(callback *call, const float *data, int ndim, const npy_intp *shape)
{
    PyObject *array = call->failed ? NULL
                                   : PyArray_New(&PyArray_Type, ndim, (npy_intp *)shape, NPY_FLOAT32, NULL,
                                                 (void *)data, 0, NPY_ARRAY_CARRAY_RO, NULL);
    if (array && PyList_Append(call->views, array) < 0)
        Py_CLEAR(array);
    call->failed |= !array;
    return array;
}

static int shape_array(PyObject *shape, npy_intp *out)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++)
        out[i] = PyLong_AsLong(PyTuple_GET_ITEM(shape, i));
    return (int)PyTuple_GET_SIZE(shape);
}

/* name -> view of each parameter; a new reference */
static PyObject *parameter_views(callback *call, const ha_mixer *mixer, const float *weights)
{
    PyObject *facts = declared(call->kind, mixer->config), *dict = PyDict_New(), *name, *shape;
    Py_ssize_t at = 0;
    call->failed |= !facts || !dict;
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        PyObject *array = view(call, weights + mixer->at[i], shape_array(shape, size), size);
        call->failed |= !array || PyDict_SetItem(dict, name, array) < 0;
        Py_XDECREF(array);
    }
    return dict;
}

/* to += factor * array, which must have that shape; any real type. `what` names it in the error. */
static void add_array(callback *call, const char *what, PyObject *object, int ndim, const npy_intp *shape, float factor,
                      float *to)
{
    PyArrayObject *array =
        call->failed ? NULL
                     : (PyArrayObject *)PyArray_FROM_OTF(object, NPY_FLOAT32, NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST);
    if (array && (PyArray_NDIM(array) != ndim || !PyArray_CompareLists(PyArray_DIMS(array), shape, ndim))) {
        PyObject *got = PyObject_GetAttrString((PyObject *)array, "shape"),
                 *want = PyArray_IntTupleFromIntp(ndim, shape);
        if (got && want)
            PyErr_Format(PyExc_ValueError, "mixer %s: %s has shape %R, expected %R", call->kind->name, what, got, want);
        Py_XDECREF(got);
        Py_XDECREF(want);
        Py_CLEAR(array);
    }
    call->failed |= !array;
    const float *from = array ? PyArray_DATA(array) : NULL;
    for (npy_intp i = 0, n = array ? PyArray_SIZE(array) : 0; i < n; i++)
        to[i] += factor * from[i];
    Py_XDECREF(array);
}

/* Calls function(*args) (args is consumed) and takes its result apart as a pair of new references. */
static void call_pair(callback *call, const char *what, PyObject *function, PyObject *args, PyObject *pair[2])
{
    pair[0] = pair[1] = NULL;
    PyObject *result = call->failed || !args ? NULL : PyObject_CallObject(function, args);
    Py_XDECREF(args);
    if (result && (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 2)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: %s gave a %s, expected a pair", call->kind->name, what,
                     Py_TYPE(result)->tp_name);
        Py_CLEAR(result);
    }
    call->failed |= !result;
    for (int i = 0; result && i < 2; i++)
        pair[i] = Py_NewRef(PyTuple_GET_ITEM(result, i));
    Py_XDECREF(result);
}

static PyObject *lengths_of(const ha_batch *batch)
{
    npy_intp n = batch->n_seq;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INT64);
    for (int s = 0; array && s < batch->n_seq; s++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)array))[s] = batch->offset[s + 1] - batch->offset[s];
    return array;
}

/* ---- the passes -------------------------------------------------------------------------------------------- */

static void init(const ha_mixer *mixer, const ha_mixer *softmax, float *weights, ha_rng *rng)
{
    static const char *const names[2][3] = {{"q_proj.weight", "k_proj.weight", "v_proj.weight"},
                                            {"q_proj.bias", "k_proj.bias", "v_proj.bias"}};
    const ha_config *c = mixer->config;
    const npy_intp rows[3] = {c->num_heads * c->head_dim, c->num_kv_heads * c->head_dim, c->num_kv_heads * c->head_dim};
    callback call = begin(mixer);
    if (PyErr_Occurred()) { /* of the layer before */
        call.failed = 1;
        end(&call);
        return;
    }
    PyObject *given = PyDict_New(), *numpy = PyImport_ImportModule("numpy.random"), *made = NULL, *key, *shape;
    for (int bias = 0; bias < 2; bias++) {
        size_t at = softmax->at[bias ? HA_SLOT_QKV_BIAS : HA_SLOT_QKV];
        for (int i = 0; i < 3 && at != HA_NONE; i++) {
            const npy_intp size[2] = {rows[i], c->hidden_size};
            PyObject *array = view(&call, weights + at, 2 - bias, size);
            call.failed |= !array || PyDict_SetItemString(given, names[bias][i], array) < 0;
            Py_XDECREF(array);
            at += (size_t)rows[i] * (bias ? 1 : (size_t)c->hidden_size);
        }
        const npy_intp size[2] = {c->hidden_size, rows[0]};
        at = softmax->at[bias ? HA_SLOT_O_BIAS : HA_SLOT_O];
        PyObject *array = at == HA_NONE ? NULL : view(&call, weights + at, 2 - bias, size);
        call.failed |= array && PyDict_SetItemString(given, bias ? "o_proj.bias" : "o_proj.weight", array) < 0;
        Py_XDECREF(array);
    }
    PyObject *config = config_dict(c);
    PyObject *generator =
        numpy ? PyObject_CallMethod(numpy, "default_rng", "K", (unsigned long long)ha_rng_next(rng)) : NULL;
    PyObject *facts = declared(call.kind, c);
    call.failed |= !config || !generator || !facts;
    if (!call.failed)
        made = PyObject_CallFunctionObjArgs(call.kind->init, generator, config, given, NULL);
    if (made && !PyDict_Check(made)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: init gave a %s, expected a dict of arrays", call.kind->name,
                     Py_TYPE(made)->tp_name);
        Py_CLEAR(made);
    }
    call.failed |= !made;
    Py_ssize_t at = 0;
    for (int i = 0; !call.failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &key, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        PyObject *array = PyDict_GetItemWithError(made, key);
        const int ndim = shape_array(shape, size);
        if (!array && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "mixer %s: init gave no %U", call.kind->name, key);
        call.failed |= !array;
        memset(weights + mixer->at[i], 0, shape_floats(shape) * sizeof *weights);
        add_array(&call, PyUnicode_AsUTF8(key), array, ndim, size, 1.0f, weights + mixer->at[i]);
    }
    Py_XDECREF(given);
    Py_XDECREF(numpy);
    Py_XDECREF(generator);
    Py_XDECREF(config);
    Py_XDECREF(made);
    end(&call); /* a pending exception is found by Model.init_mixers */
}

/* Runs one token of the sequences of `active` [n] through step: rows `row` [n] of x and out. */
static ha_status step(const ha_mixer *mixer, const ha_pass *pass, int n, const int *active, const int *row,
                      const float *x, float scale, float *out, ha_state *state)
{
    callback call = begin(mixer);
    const npy_intp d = mixer->config->hidden_size;
    PyObject *facts = declared(call.kind, mixer->config), *shape = facts ? PyTuple_GET_ITEM(facts, 1) : NULL;
    if (facts && (shape == Py_None || call.kind->step == Py_None)) {
        PyErr_Format(PyExc_NotImplementedError, "mixer %s was registered without step and state: it cannot decode",
                     call.kind->name);
        facts = NULL;
    }
    call.failed |= !facts;
    PyObject *held = NULL, *in = NULL, *pair[2] = {NULL, NULL};
    npy_intp size[HA_MAX_DIMS + 1] = {n}, wide[2] = {n, d};
    const size_t floats = call.failed ? 0 : shape_floats(shape);
    const int ndim = call.failed ? 0 : 1 + shape_array(shape, size + 1);
    if (!call.failed) {
        held = PyArray_SimpleNew(ndim, size, NPY_FLOAT32);
        in = PyArray_SimpleNew(2, wide, NPY_FLOAT32);
    }
    call.failed |= !held || !in;
    for (int i = 0; !call.failed && i < n; i++) {
        memcpy((float *)PyArray_DATA((PyArrayObject *)held) + (size_t)i * floats, state[active[i]].data,
               floats * sizeof(float));
        memcpy((float *)PyArray_DATA((PyArrayObject *)in) + i * d, x + row[i] * d, (size_t)d * sizeof(float));
    }
    PyObject *params = parameter_views(&call, mixer, pass->weights);
    if (!call.failed)
        call_pair(&call, "step", call.kind->step, PyTuple_Pack(3, params, held, in), pair);
    size_t mark = ha_arena_mark(pass->arena);
    float *y = ha_arena_push(pass->arena, (size_t)n * ((size_t)d + floats), sizeof *y), *next = y + n * d;
    if (y && !call.failed) {
        memset(y, 0, (size_t)n * ((size_t)d + floats) * sizeof *y);
        add_array(&call, "y of step", pair[0], 2, wide, scale, y);
        add_array(&call, "state of step", pair[1], ndim, size, 1.0f, next);
    }
    for (int i = 0; y && !call.failed && i < n; i++) {
        for (npy_intp c = 0; c < d; c++)
            out[row[i] * d + c] += y[i * d + c];
        memcpy(state[active[i]].data, next + (size_t)i * floats, floats * sizeof *next);
    }
    ha_arena_release(pass->arena, mark);
    Py_XDECREF(held);
    Py_XDECREF(in);
    Py_XDECREF(params);
    Py_XDECREF(pair[0]);
    Py_XDECREF(pair[1]);
    ha_status status = end(&call);
    return y ? status : HA_NO_MEMORY;
}

/* Token by token, the sequences side by side. */
static ha_status continue_sequences(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                                    ha_state *state)
{
    const ha_batch *batch = pass->batch;
    size_t mark = ha_arena_mark(pass->arena);
    int *active, *row, n = 1;
    HA_PUSH(active, pass->arena, (size_t)batch->n_seq);
    HA_PUSH(row, pass->arena, (size_t)batch->n_seq);
    for (int t = 0; n > 0; t++) {
        n = 0;
        for (int s = 0; s < batch->n_seq; s++)
            if (batch->offset[s] + t < batch->offset[s + 1]) {
                row[n] = batch->offset[s] + t;
                active[n++] = s;
            }
        if (n > 0)
            HA_TRY(step(mixer, pass, n, active, row, x, scale, out, state));
        if (ha_interrupted(pass->check))
            return HA_INTERRUPTED;
    }
    ha_arena_release(pass->arena, mark);
    return HA_OK;
}

/* forward(params, x, lengths) -> pair */
static void run_forward(callback *call, const ha_pass *pass, PyObject *params, PyObject *x, PyObject *pair[2])
{
    PyObject *lengths = lengths_of(pass->batch);
    call->failed |= !lengths;
    pair[0] = pair[1] = NULL;
    if (!call->failed)
        call_pair(call, "forward", call->kind->forward, PyTuple_Pack(3, params, x, lengths), pair);
    Py_XDECREF(lengths);
}

static ha_status forward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *out,
                         float *saved, ha_state *state)
{
    (void)saved;
    if (state)
        return continue_sequences(mixer, pass, x, scale, out, state);
    const npy_intp wide[2] = {pass->batch->rows, mixer->config->hidden_size};
    callback call = begin(mixer);
    PyObject *params = parameter_views(&call, mixer, pass->weights), *in = view(&call, x, 2, wide), *pair[2];
    run_forward(&call, pass, params, in, pair);
    add_array(&call, "y of forward", pair[0], 2, wide, scale, out);
    Py_XDECREF(params);
    Py_XDECREF(in);
    Py_XDECREF(pair[0]);
    Py_XDECREF(pair[1]);
    return end(&call);
}

/* grads += dparams, each name of the mixer once */
static void add_gradients(callback *call, const ha_mixer *mixer, PyObject *dparams, float *grads)
{
    PyObject *facts = declared(call->kind, mixer->config), *name, *shape;
    Py_ssize_t at = 0;
    if (!call->failed && !PyDict_Check(dparams)) {
        PyErr_Format(PyExc_TypeError, "mixer %s: dparams of vjp is a %s, expected a dict", call->kind->name,
                     Py_TYPE(dparams)->tp_name);
        call->failed = 1;
    }
    for (int i = 0; !call->failed && PyDict_Next(PyTuple_GET_ITEM(facts, 0), &at, &name, &shape); i++) {
        npy_intp size[HA_MAX_DIMS];
        const int ndim = shape_array(shape, size);
        PyObject *array = PyDict_GetItemWithError(dparams, name);
        if (!array && !PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "mixer %s: vjp gave no gradient of %U", call->kind->name, name);
        call->failed |= !array;
        add_array(call, PyUnicode_AsUTF8(name), array, ndim, size, 1.0f, grads + mixer->at[i]);
    }
}

static ha_status backward(const ha_mixer *mixer, const ha_pass *pass, const float *x, float scale, float *saved,
                          const float *dout, float *dx, double *gate)
{
    (void)saved;
    const ha_batch *batch = pass->batch;
    const npy_intp d = mixer->config->hidden_size, wide[2] = {batch->rows, d};
    const size_t n = (size_t)batch->rows * (size_t)d, mark = ha_arena_mark(pass->arena);
    float *y, *dy;
    HA_PUSH(y, pass->arena, n);
    HA_PUSH(dy, pass->arena, n);
    memset(y, 0, n * sizeof *y);
    for (size_t i = 0; i < n; i++)
        dy[i] = scale * dout[i];
    callback call = begin(mixer);
    PyObject *params = parameter_views(&call, mixer, pass->weights), *in = view(&call, x, 2, wide), *made[2],
             *slope[2] = {NULL, NULL};
    run_forward(&call, pass, params, in, made);
    if (gate)
        add_array(&call, "y of forward", made[0], 2, wide, 1.0f, y);
    for (int s = 0; gate && s < batch->n_seq; s++) {
        gate[s] = 0.0;
        for (ptrdiff_t i = (ptrdiff_t)batch->offset[s] * d; i < (ptrdiff_t)batch->offset[s + 1] * d; i++)
            gate[s] += (double)dout[i] * (double)y[i];
    }
    if (scale != 0.0f && !call.failed) {
        PyObject *up = view(&call, dy, 2, wide);
        if (up)
            call_pair(&call, "vjp", call.kind->vjp, PyTuple_Pack(3, params, made[1], up), slope);
        Py_XDECREF(up);
        if (dx)
            add_array(&call, "dx of vjp", slope[0], 2, wide, 1.0f, dx);
        if (pass->grads)
            add_gradients(&call, mixer, slope[1], pass->grads);
    }
    Py_XDECREF(params);
    Py_XDECREF(in);
    for (int i = 0; i < 2; i++) {
        Py_XDECREF(made[i]);
        Py_XDECREF(slope[i]);
    }
    ha_arena_release(pass->arena, mark);
    return end(&call);
}

/* ---- registration ------------------------------------------------------------------------------------------ */

PyObject *ha_register_mixer(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "forward", "vjp", "step", "parameters", "init", "state", NULL};
    static const char *const what[] = {"forward", "vjp", "step", "parameters", "init", "state"};
    PyObject *function[6] = {NULL, NULL, NULL, NULL, NULL, Py_None};
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOOOOO|O:register_mixer", names, &name, &function[0], &function[1],
                                     &function[2], &function[3], &function[4], &function[5]))
        return NULL;
    if (!good_name(name, MAX_LEAF - 1))
        return PyErr_Format(PyExc_ValueError, "name is '%s', allowed are up to %d letters, digits and _", name,
                            MAX_LEAF - 1);
    for (int i = 0; i < 6; i++)
        if (!PyCallable_Check(function[i]) && !(function[i] == Py_None && (i == 2 || i == 5)))
            return PyErr_Format(PyExc_TypeError, "%s is a %s, expected a function", what[i],
                                Py_TYPE(function[i])->tp_name);
    if ((function[2] == Py_None) != (function[5] == Py_None))
        return PyErr_Format(PyExc_ValueError, "step and state belong together: give both or neither");
    external_kind *kind = PyMem_Calloc(1, sizeof *kind); /* stays for the life of the process, as the registry does */
    if (!kind)
        return PyErr_NoMemory();
    kind->declared = PyDict_New();
    strcpy(kind->name, name);
    kind->kind = (ha_mixer_kind){.name = kind->name,
                                 .summary = "registered from Python",
                                 .declare = declare,
                                 .init_from_softmax = init,
                                 .saved = saved_floats,
                                 .state = state_shape,
                                 .forward = forward,
                                 .backward = backward,
                                 .flops = flops};
    ha_status status = kind->declared ? ha_mixer_register(&kind->kind) : HA_NO_MEMORY;
    if (status != HA_OK) {
        Py_XDECREF(kind->declared);
        PyMem_Free(kind);
        return ha_raise(status);
    }
    PyObject **own[6] = {&kind->forward, &kind->vjp, &kind->step, &kind->parameters, &kind->init, &kind->state};
    for (int i = 0; i < 6; i++)
        *own[i] = Py_NewRef(function[i]);
    Py_RETURN_NONE;
}
