/* Token arrays [B,T] with padding become a stream without any. */
#include "python/padded_tokens.h"

#include "python/arrays.h"

void ha_packed_clear(packed_tokens *packed)
{
    PyMem_Free(packed->token);
    PyMem_Free(packed->segment);
    PyMem_Free(packed->window);
    PyMem_Free(packed->first);
    *packed = (packed_tokens){0};
}

/* Where the real tokens of a mask row [width] are, columns *from .. *to - 1: one run of at least
 * one. Returns 0, or -1 with a ValueError. */
static int run_of(const npy_bool *mask, int width, int row, int *from, int *to)
{
    *from = 0;
    while (*from < width && !mask[*from])
        ++*from;
    *to = *from;
    while (*to < width && mask[*to])
        ++*to;
    for (int i = *to; i < width; i++)
        if (mask[i]) {
            PyErr_Format(PyExc_ValueError,
                         "mask row %d has a gap at column %d: padding may stand before or after the tokens only", row,
                         *to);
            return -1;
        }
    if (*from == *to) {
        PyErr_Format(PyExc_ValueError, "mask row %d hides every token", row);
        return -1;
    }
    return 0;
}

/* The arrays of an argument, all [n_seq,width]; mask and segments may be NULL. */
typedef struct {
    PyArrayObject *tokens, *mask, *segments;
} padded_arrays;

/* Copies what is not padded into `packed`, whose memory is there; -1 with a ValueError at a token
 * that is none. */
static int fill(const padded_arrays *arrays, int vocabulary, packed_tokens *packed)
{
    const int32_t *token = PyArray_DATA(arrays->tokens);
    const int32_t *segment = arrays->segments ? PyArray_DATA(arrays->segments) : NULL;
    const npy_bool *mask = arrays->mask ? PyArray_DATA(arrays->mask) : NULL;
    for (int s = 0; s < packed->n_seq; s++) {
        const size_t row = (size_t)s * (size_t)packed->width;
        int from = 0, to = packed->width;
        if (mask && run_of(mask + row, packed->width, s, &from, &to) < 0)
            return -1;
        packed->first[s] = from;
        packed->window[2 * s] = packed->rows;
        for (int t = from; t < to; t++) {
            const int32_t id = token[row + (size_t)t];
            if (id < 0 || id >= vocabulary) {
                PyErr_Format(PyExc_ValueError, "tokens[%d, %d] is %d, allowed are 0 to %d", s, t, id, vocabulary - 1);
                return -1;
            }
            if (segment)
                packed->segment[packed->rows] = segment[row + (size_t)t];
            packed->token[packed->rows++] = id;
        }
        packed->window[2 * s + 1] = packed->rows;
    }
    return 0;
}

/* Takes the memory and fills it; -1 with an exception. */
static int pack(const padded_arrays *arrays, int vocabulary, packed_tokens *packed)
{
    const npy_intp *shape = PyArray_DIMS(arrays->tokens);
    const size_t count = (size_t)(shape[0] * shape[1]);
    packed->n_seq = (int)shape[0];
    packed->width = (int)shape[1];
    packed->token = PyMem_Calloc(count, sizeof *packed->token);
    packed->segment = arrays->segments ? PyMem_Calloc(count, sizeof *packed->segment) : NULL;
    packed->window = PyMem_Calloc((size_t)shape[0] * 2, sizeof *packed->window);
    packed->first = PyMem_Calloc((size_t)shape[0], sizeof *packed->first);
    if (packed->token && (packed->segment || !arrays->segments) && packed->window && packed->first)
        return fill(arrays, vocabulary, packed);
    PyErr_NoMemory();
    return -1;
}

int ha_packed_parse(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed_tokens *out)
{
    padded_arrays arrays = {.tokens = ha_array_arg(tokens, "tokens", NPY_INT32, 2, NULL)};
    int status = -1;
    *out = (packed_tokens){0};
    if (!arrays.tokens)
        return -1;
    const npy_intp *shape = PyArray_DIMS(arrays.tokens);
    if (shape[0] < 1 || shape[1] < 1 || shape[0] * shape[1] > INT32_MAX / 2)
        PyErr_Format(PyExc_ValueError, "tokens has shape (%zd, %zd), allowed is at least one sequence of one token",
                     (Py_ssize_t)shape[0], (Py_ssize_t)shape[1]);
    else if ((mask == Py_None || (arrays.mask = ha_array_arg(mask, "mask", NPY_BOOL, 2, shape))) &&
             (segments == Py_None || (arrays.segments = ha_array_arg(segments, "segments", NPY_INT32, 2, shape))))
        status = pack(&arrays, model->model->config.vocab_size, out);
    Py_DECREF(arrays.tokens);
    Py_XDECREF(arrays.mask);
    Py_XDECREF(arrays.segments);
    if (status < 0)
        ha_packed_clear(out);
    return status;
}
