/* Token arrays [B,T] with padding become a stream without any. */
#include "python/padded_tokens.h"

#include "python/arrays.h"

void ha_pack_clear(packed *p)
{
    PyMem_Free(p->token);
    PyMem_Free(p->segment);
    PyMem_Free(p->window);
    PyMem_Free(p->first);
    *p = (packed){0};
}

/* Real tokens of a mask row are one run [*from, *to). */
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

static int fill(model_object *model, PyArrayObject *tokens, PyArrayObject *mask, PyArrayObject *segments, packed *p)
{
    const int32_t *token = PyArray_DATA(tokens), *segment = segments ? PyArray_DATA(segments) : NULL;
    const int vocabulary = model->model->config.vocab_size;
    for (int s = 0; s < p->n_seq; s++) {
        int from = 0, to = p->width;
        if (mask &&
            run_of((const npy_bool *)PyArray_DATA(mask) + (size_t)s * (size_t)p->width, p->width, s, &from, &to) < 0)
            return -1;
        p->first[s] = from;
        p->window[2 * s] = p->rows;
        for (int t = from; t < to; t++) {
            int32_t id = token[(size_t)s * (size_t)p->width + (size_t)t];
            if (id < 0 || id >= vocabulary) {
                PyErr_Format(PyExc_ValueError, "tokens[%d, %d] is %d, allowed are 0 to %d", s, t, id, vocabulary - 1);
                return -1;
            }
            if (segment)
                p->segment[p->rows] = segment[(size_t)s * (size_t)p->width + (size_t)t];
            p->token[p->rows++] = id;
        }
        p->window[2 * s + 1] = p->rows;
    }
    return 0;
}

int ha_pack(model_object *model, PyObject *tokens, PyObject *mask, PyObject *segments, packed *p)
{
    *p = (packed){0};
    PyArrayObject *mask_array = NULL, *segment_array = NULL,
                  *array = ha_array_arg(tokens, "tokens", NPY_INT32, 2, NULL);
    int ok = -1;
    if (!array)
        return -1;
    npy_intp *shape = PyArray_DIMS(array);
    if (shape[0] < 1 || shape[1] < 1 || shape[0] * shape[1] > INT32_MAX / 2) {
        PyErr_Format(PyExc_ValueError, "tokens has shape (%zd, %zd), allowed is at least one sequence of one token",
                     (Py_ssize_t)shape[0], (Py_ssize_t)shape[1]);
        goto done;
    }
    if (mask && mask != Py_None && !(mask_array = ha_array_arg(mask, "mask", NPY_BOOL, 2, shape)))
        goto done;
    if (segments != Py_None && !(segment_array = ha_array_arg(segments, "segments", NPY_INT32, 2, shape)))
        goto done;
    p->n_seq = (int)shape[0];
    p->width = (int)shape[1];
    p->token = PyMem_Calloc((size_t)(shape[0] * shape[1]), sizeof *p->token);
    if (segment_array)
        p->segment = PyMem_Calloc((size_t)(shape[0] * shape[1]), sizeof *p->segment);
    p->window = PyMem_Calloc((size_t)shape[0] * 2, sizeof *p->window);
    p->first = PyMem_Calloc((size_t)shape[0], sizeof *p->first);
    if (!p->token || (segment_array && !p->segment) || !p->window || !p->first)
        PyErr_NoMemory();
    else
        ok = fill(model, array, mask_array, segment_array, p);
done:
    Py_DECREF(array);
    Py_XDECREF(mask_array);
    Py_XDECREF(segment_array);
    if (ok < 0)
        ha_pack_clear(p);
    return ok;
}
