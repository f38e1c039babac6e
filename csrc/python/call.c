#include "python/call.h"

#include "python/arrays.h"
#include "python/raise.h"

#include <limits.h>
#include <stdatomic.h>

ha_call ha_call_begin(int type)
{
    return (ha_call){.type = type};
}

/* ---- arguments --------------------------------------------------------------------------------------------- */

/* The next axis of a shape text: its multiplier and letter; 0 at the end. */
static char next_axis(const char **at, int *times)
{
    *times = 1;
    while (**at == ' ')
        ++*at;
    if (**at >= '2' && **at <= '9')
        *times = *(*at)++ - '0';
    return **at ? *(*at)++ : 0;
}

static int count_axes(const char *shape)
{
    int n = 0, times;
    while (next_axis(&shape, &times))
        n++;
    return n;
}

static int match(ha_call *call, PyArrayObject *array, const char *name, const char *shape)
{
    int ndim = count_axes(shape), times;
    if (PyArray_NDIM(array) != ndim) {
        PyErr_Format(PyExc_ValueError, "%s has %d dimensions, expected %d: [%s]", name, PyArray_NDIM(array), ndim,
                     shape);
        return -1;
    }
    const char *at = shape;
    int64_t row = 1; /* loops count a row's items in ints */
    for (int i = 0; i < ndim; i++) {
        int *size = &call->size[next_axis(&at, &times) - 'A'];
        npy_intp length = PyArray_DIM(array, i);
        if (length < 1 || length > INT_MAX || length % times) {
            PyErr_Format(PyExc_ValueError,
                         "%s has length %zd along axis %d of [%s], allowed are multiples of %d from %d on", name,
                         (Py_ssize_t)length, i, shape, times, times);
            return -1;
        }
        if (*size == 0)
            *size = (int)length / times;
        if (length != (npy_intp)*size * times) {
            PyErr_Format(PyExc_ValueError, "%s has length %zd along axis %d of [%s], expected %zd", name,
                         (Py_ssize_t)length, i, shape, (Py_ssize_t)*size * times);
            return -1;
        }
        if (i > 0 && (row *= length) > INT_MAX) {
            PyErr_Format(PyExc_ValueError, "%s has more than %d items behind its first axis", name, INT_MAX);
            return -1;
        }
    }
    return 0;
}

void ha_call_state_size(ha_call *call, int64_t size)
{
    ha_call_require(call, size <= INT_MAX, "a state has %lld numbers a head, allowed are up to %d", (long long)size,
                    INT_MAX);
    if (!call->failed)
        call->size['P' - 'A'] = (int)size;
}

static void *hold(ha_call *call, PyArrayObject *array)
{
    if (!array || call->n_held == HA_CALL_ARRAYS) {
        Py_XDECREF(array);
        call->failed = 1;
        return NULL;
    }
    call->held[call->n_held++] = (PyObject *)array;
    return PyArray_DATA(array);
}

const void *ha_call_in(ha_call *call, PyObject *object, const char *name, const char *shape, int optional)
{
    if (call->failed || (optional && (!object || object == Py_None)))
        return NULL;
    PyArrayObject *array = ha_array_arg(object, name, call->type, -1, NULL);
    if (array && match(call, array, name, shape) < 0)
        Py_CLEAR(array);
    return hold(call, array);
}

const void *ha_call_in_either(ha_call *call, PyObject *object, const char *name, const char *const shape[2], int *which)
{
    *which = -1;
    if (call->failed || !object || object == Py_None)
        return NULL;
    PyArrayObject *array = ha_array_arg(object, name, call->type, -1, NULL);
    *which = array && PyArray_NDIM(array) == count_axes(shape[1]);
    if (array && match(call, array, name, shape[*which]) < 0)
        Py_CLEAR(array);
    return hold(call, array);
}

const int32_t *ha_call_in_int(ha_call *call, PyObject *object, const char *name, const char *shape, int64_t min,
                              int64_t max)
{
    if (call->failed)
        return NULL;
    PyArrayObject *wide = ha_array_arg(object, name, NPY_INT64, -1, NULL);
    if (!wide || match(call, wide, name, shape) < 0) {
        Py_XDECREF(wide);
        call->failed = 1;
        return NULL;
    }
    const int64_t *value = PyArray_DATA(wide);
    PyArrayObject *narrow = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(wide), PyArray_DIMS(wide), NPY_INT32);
    int32_t *to = narrow ? PyArray_DATA(narrow) : NULL;
    for (npy_intp i = 0; narrow && i < PyArray_SIZE(wide); i++) {
        if (value[i] < min || value[i] >= max) {
            PyErr_Format(PyExc_ValueError, "%s holds %lld, allowed are %lld to %lld", name, (long long)value[i],
                         (long long)min, (long long)max - 1);
            Py_CLEAR(narrow);
            break;
        }
        to[i] = (int32_t)value[i];
    }
    Py_DECREF(wide);
    return hold(call, narrow);
}

void *ha_call_in_place(ha_call *call, PyObject *object, const char *name, const char *shape)
{
    if (call->failed)
        return NULL;
    PyArrayObject *array = ha_array_out(object, name, call->type, -1, NULL);
    if (array && match(call, array, name, shape) < 0)
        Py_CLEAR(array);
    return hold(call, array);
}

void ha_call_batch(ha_call *call, PyObject *lengths, const char *name, int rows, ha_batch *batch)
{
    if (call->failed)
        return;
    PyObject *items = lengths && lengths != Py_None ? ha_tuple_arg(lengths, name, "a sequence of ints") : NULL;
    if (!items && PyErr_Occurred()) {
        call->failed = 1;
        return;
    }
    Py_ssize_t n = items ? PyTuple_GET_SIZE(items) : 1;
    npy_intp shape[2] = {n + 1, rows};
    int32_t *offset = hold(call, (PyArrayObject *)PyArray_SimpleNew(1, shape, NPY_INT32));
    int32_t *position = call->failed ? NULL : hold(call, (PyArrayObject *)PyArray_SimpleNew(1, shape + 1, NPY_INT32));
    long long sum = 0;
    for (Py_ssize_t s = 0; !call->failed && s < n; s++) {
        long long length = items ? PyLong_AsLongLong(PyTuple_GET_ITEM(items, s)) : rows;
        if (length == -1 && PyErr_Occurred())
            call->failed = 1;
        else
            ha_call_require(call, length >= 1 && length <= rows - sum,
                            "%s[%zd] is %lld, allowed are 1 to the %lld rows left", name, s, length, rows - sum);
        if (call->failed)
            break;
        offset[s] = (int32_t)sum;
        for (int i = 0; i < length; i++)
            position[sum + i] = i;
        sum += length;
    }
    Py_XDECREF(items);
    ha_call_require(call, sum == rows, "%s add up to %lld, expected %d, the rows of the arrays", name, sum, rows);
    if (call->failed)
        return;
    offset[n] = rows;
    call->size['S' - 'A'] = (int)n;
    *batch = (ha_batch){.rows = rows, .n_seq = (int)n, .offset = offset, .position = position};
}

void ha_call_require(ha_call *call, int ok, const char *format, ...)
{
    if (call->failed || ok)
        return;
    va_list args;
    va_start(args, format);
    PyErr_FormatV(PyExc_ValueError, format, args);
    va_end(args);
    call->failed = 1;
}

ha_status ha_by_sequence(int n_seq, size_t size, float *states, float ***pointers, ha_arena *arena)
{
    *pointers = NULL;
    if (!states)
        return HA_OK;
    HA_PUSH(*pointers, arena, (size_t)n_seq);
    for (int s = 0; s < n_seq; s++)
        (*pointers)[s] = states + (size_t)s * size;
    return HA_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------- */

static void add_result(ha_call *call, PyObject *object)
{
    if (object && call->n_results < HA_CALL_RESULTS)
        call->result[call->n_results++] = object;
    else
        call->failed = 1;
}

static void *new_array(ha_call *call, const char *shape, int type)
{
    npy_intp length[NPY_MAXDIMS];
    int ndim = 0, times;
    const char *at = shape;
    for (char letter; !call->failed && (letter = next_axis(&at, &times)) && ndim < 8; ndim++)
        length[ndim] = (npy_intp)times * ha_size(call, letter);
    PyObject *array = call->failed ? NULL : PyArray_ZEROS(ndim, length, type, 0);
    add_result(call, array);
    return array ? PyArray_DATA((PyArrayObject *)array) : NULL;
}

void *ha_call_out(ha_call *call, const char *shape)
{
    return new_array(call, shape, call->type);
}

double *ha_call_out_double(ha_call *call, const char *shape)
{
    return new_array(call, shape, NPY_FLOAT64);
}

void ha_call_out_none(ha_call *call)
{
    add_result(call, Py_NewRef(Py_None));
}

void ha_call_drop(ha_call *call)
{
    if (!call->failed && call->n_held < HA_CALL_ARRAYS)
        call->held[call->n_held++] = call->result[--call->n_results];
}

int ha_call_feature(ha_call *call, const char *name, PyObject *x_arg, PyObject *w_arg, const void **x, const void **w)
{
    static const char *const names[] = {"elu", "relu", "hedgehog", "favor"};
    int map = 0;
    while (map < 4 && strcmp(name, names[map]) != 0)
        map++;
    ha_call_require(call, map < 4, "map is '%s', allowed are elu, relu, hedgehog and favor", name);
    *x = ha_call_in(call, x_arg, "x", "T H d", 0);
    *w = ha_call_in(call, w_arg, "weight", "H d d", map < 2);
    ha_call_require(call, map >= 2 || !*w, "weight of the map %s must be None", name);
    call->size['F' - 'A'] = (map < 2 ? 1 : 2) * ha_size(call, 'd');
    return map;
}

ha_act ha_call_act(ha_call *call, const char *name)
{
    static const char *const names[] = {
        [HA_ACT_NONE] = "none", [HA_ACT_GELU] = "gelu", [HA_ACT_GELU_TANH] = "gelu_tanh",
        [HA_ACT_RELU] = "relu", [HA_ACT_SILU] = "silu", [HA_ACT_SIGMOID] = "sigmoid",
        [HA_ACT_TANH] = "tanh"};
    int kind = 0;
    while (kind < HA_ACTS && strcmp(names[kind], name) != 0)
        kind++;
    ha_call_require(call, kind < HA_ACTS,
                    "kind is '%s', allowed are none, gelu, gelu_tanh, relu, silu, sigmoid and tanh", name);
    return (ha_act)kind;
}

void ha_call_taps(ha_call *call)
{
    int taps = ha_size(call, 'w');
    ha_call_require(call, call->failed || (taps >= 2 && taps <= 16), "weight has %d taps, allowed are 2 to 16", taps);
    call->size['P' - 'A'] = taps - 1;
}

/* ---- running ----------------------------------------------------------------------------------------------- */

/* One arena is kept from call to call, so that a loop of calls takes no page faults after the first. */
static _Atomic(ha_arena *) spare;
enum { KEEP = 1 << 30 }; /* bytes of touched pages that may stay with it */

static ha_arena *take_arena(ha_status *status)
{
    ha_arena *arena = atomic_exchange(&spare, NULL);
    if (arena)
        return arena;
    arena = PyMem_RawCalloc(1, sizeof *arena);
    *status = arena ? ha_arena_open(arena) : ha_fail(HA_NO_MEMORY, "out of memory");
    if (*status != HA_OK) {
        PyMem_RawFree(arena);
        return NULL;
    }
    return arena;
}

static void give_arena(ha_arena *arena)
{
    ha_arena_release(arena, 0); /* an op that failed may have left something on it */
    if (arena->peak > KEEP)
        ha_arena_trim(arena);
    ha_arena *old = atomic_exchange(&spare, arena);
    if (old) {
        ha_arena_close(old);
        PyMem_RawFree(old);
    }
}

int ha_call_run(ha_call *call)
{
    ha_status status = HA_OK;
    if (!call->failed && !(call->arena = take_arena(&status))) {
        ha_raise(status);
        call->failed = 1;
    }
    if (!call->failed)
        call->thread = PyEval_SaveThread();
    return !call->failed;
}

PyObject *ha_call_end(ha_call *call, ha_status status)
{
    if (call->thread)
        PyEval_RestoreThread(call->thread);
    if (call->arena)
        give_arena(call->arena);
    if (!call->failed && status != HA_OK) {
        ha_raise(status);
        call->failed = 1;
    }
    PyObject *all = NULL;
    if (!call->failed && call->n_results == 1)
        all = Py_NewRef(call->result[0]);
    else if (!call->failed && call->n_results > 1 && (all = PyTuple_New(call->n_results)))
        for (int i = 0; i < call->n_results; i++)
            PyTuple_SET_ITEM(all, i, Py_NewRef(call->result[i]));
    else if (!call->failed && call->n_results == 0)
        all = Py_NewRef(Py_None);
    for (int i = 0; i < call->n_results; i++)
        Py_DECREF(call->result[i]);
    for (int i = 0; i < call->n_held; i++)
        Py_DECREF(call->held[i]);
    return all;
}

int ha_add_submodule(PyObject *module, const char *name, const char *doc, PyMethodDef *const *tables)
{
    PyObject *full = PyUnicode_FromFormat("%s.%s", PyModule_GetName(module), name);
    PyObject *sub = full ? PyModule_NewObject(full) : NULL;
    int failed = !sub || PyModule_SetDocString(sub, doc) < 0;
    for (int i = 0; !failed && tables[i]; i++)
        failed = PyModule_AddFunctions(sub, tables[i]) < 0;
    failed = failed || PyModule_AddObjectRef(module, name, sub) < 0 ||
             PyDict_SetItem(PyImport_GetModuleDict(), full, sub) < 0;
    Py_XDECREF(full);
    Py_XDECREF(sub);
    return failed ? -1 : 0;
}
