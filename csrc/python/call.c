/* Arguments of one call: arrays against shapes, sizes, and lengths of sequences. */
#include "python/call.h"

#include <limits.h>
#include <string.h>

#include "python/arrays.h"

const ha_value *ha_argument(const ha_call *call, const char *name)
{
    static const ha_value none;
    for (int i = 0; i < HA_CALL_VALUES && call->value[i].name; i++)
        if (strcmp(call->value[i].name, name) == 0)
            return &call->value[i];
    return &none;
}

void *ha_data(const ha_call *call, const char *name)
{
    return ha_argument(call, name)->data;
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

void ha_call_require_span(ha_call *call, const char *name, int64_t value, int lowest)
{
    ha_call_require(call, value >= lowest && value <= 1 << 30, "%s is %lld, allowed are %d to 2^30", name,
                    (long long)value, lowest);
}

void ha_call_require_groups(ha_call *call)
{
    const int heads = ha_size(call, 'H'), key_heads = ha_size(call, 'K');
    ha_call_require(call, heads % key_heads == 0, "k has %d heads, allowed are divisors of q's %d", key_heads, heads);
}

void ha_call_state_size(ha_call *call, int64_t size)
{
    ha_call_require(call, size <= INT_MAX, "a state has %lld numbers a head, allowed are up to %d", (long long)size,
                    INT_MAX);
    if (!call->failed)
        call->size['P' - 'A'] = (int)size;
}

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

/* Axes of an array of that shape. */
static int count_axes(const char *shape)
{
    int count = 0, times;
    while (next_axis(&shape, &times))
        count++;
    return count;
}

int ha_call_axes(const ha_call *call, const char *shape, npy_intp *length)
{
    int ndim = 0, times;
    for (char letter; (letter = next_axis(&shape, &times)); ndim++)
        length[ndim] = (npy_intp)times * ha_size(call, letter);
    return ndim;
}

size_t ha_call_count(const ha_call *call, const char *shape)
{
    size_t count = 1;
    int times;
    for (char letter; (letter = next_axis(&shape, &times));)
        count *= (size_t)times * (size_t)ha_size(call, letter);
    return count;
}

/* Compares an array with its shape and learns the sizes that were not known; -1 with an
 * exception. */
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

/* Keeps an array until the call ends and returns its data; NULL, and the call has failed, without
 * one. */
static void *hold(ha_call *call, PyArrayObject *array)
{
    if (!array || call->held_count == HA_CALL_ARRAYS) {
        Py_XDECREF(array);
        call->failed = 1;
        return NULL;
    }
    call->held[call->held_count++] = (PyObject *)array;
    return PyArray_DATA(array);
}

/* True where there is something to read. */
static int passed(const ha_call *call, ha_value *value)
{
    value->given = value->object && (value->required || value->object != Py_None);
    return value->given && !call->failed;
}

/* The value is this array, unless it has another shape; takes over the reference. */
static void accept(ha_call *call, ha_value *value, PyArrayObject *array, const char *shape)
{
    if (array && match(call, array, value->name, shape) < 0)
        Py_CLEAR(array);
    value->shape = shape;
    value->data = hold(call, array);
}

void ha_call_array(ha_call *call, ha_value *value, const char *shape, const char *other)
{
    if (!passed(call, value))
        return;
    PyArrayObject *array = ha_array_arg(value->object, value->name, call->type, -1, NULL);
    const int second = array && other && PyArray_NDIM(array) == count_axes(other);
    accept(call, value, array, second ? other : shape);
}

void ha_call_in_place(ha_call *call, ha_value *value, const char *shape)
{
    if (passed(call, value))
        accept(call, value, ha_array_out(value->object, value->name, call->type, -1, NULL), shape);
}

void ha_call_integers(ha_call *call, ha_value *value, const char *shape, int64_t low, int64_t end)
{
    if (!passed(call, value))
        return;
    PyArrayObject *wide = ha_array_arg(value->object, value->name, NPY_INT64, -1, NULL), *narrow = NULL;
    if (wide && match(call, wide, value->name, shape) == 0)
        narrow = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(wide), PyArray_DIMS(wide), NPY_INT32);
    for (npy_intp i = 0; narrow && i < PyArray_SIZE(wide); i++) {
        const int64_t number = ((const int64_t *)PyArray_DATA(wide))[i];
        if (number < low || number >= end) {
            PyErr_Format(PyExc_ValueError, "%s holds %lld, allowed are %lld to %lld", value->name, (long long)number,
                         (long long)low, (long long)end - 1);
            Py_CLEAR(narrow);
            break;
        }
        ((int32_t *)PyArray_DATA(narrow))[i] = (int32_t)number;
    }
    Py_XDECREF(wide);
    value->shape = shape;
    value->data = hold(call, narrow);
}

void ha_call_lengths(ha_call *call, PyObject *lengths, const char *name, int rows, ha_batch *batch)
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
