/* Storage types in Python terms: pack(matrix, dtype, factor), float32 to rows of bytes, and
 * unpack(data, dtype), back. */
#include "python/stored.h"

#include "kernels/kernels.h"
#include "ops/ops.h"
#include "python/arrays.h"
#include "python/dtype_arg.h"

/* A new uint8 [rows, bytes] of matrix [rows, columns] in a storage type; triangle [columns,
 * columns] or NULL: by ha_round_matrix, which uses `matrix` up. NULL with an exception. */
static PyArrayObject *packed_rows(PyArrayObject *matrix, ha_dtype dtype, PyArrayObject *triangle)
{
    const npy_intp rows = PyArray_DIM(matrix, 0), columns = PyArray_DIM(matrix, 1);
    npy_intp shape[2] = {rows, (npy_intp)ha_dtype_bytes(dtype, (size_t)columns)};
    PyArrayObject *out = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_UINT8);
    if (!out)
        return NULL;
    float *from = PyArray_DATA(matrix);
    void *to = PyArray_DATA(out);
    PyThreadState *thread = PyEval_SaveThread();
    if (triangle)
        ha_round_matrix((int)rows, (int)columns, dtype, PyArray_DATA(triangle), from, to);
    else
        ha_from_f32(dtype, from, to, (size_t)(rows * columns));
    PyEval_RestoreThread(thread);
    return out;
}

PyObject *ha_pack_matrix(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"matrix", "dtype", "factor", NULL};
    PyObject *matrix, *factor = Py_None;
    const char *name;
    ha_dtype dtype;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os|O:pack", names, &matrix, &name, &factor) ||
        ha_dtype_parse(name, HA_DTYPE_COUNT, &dtype) < 0)
        return NULL;
    PyArrayObject *given = ha_array_arg(matrix, "matrix", NPY_FLOAT32, 2, NULL);
    if (!given)
        return NULL;
    const npy_intp columns = PyArray_DIM(given, 1), square[2] = {columns, columns};
    PyArrayObject *triangle = NULL, *work = NULL, *out = NULL;
    if (factor != Py_None) {
        if (ha_dtype_block(dtype) == 1)
            PyErr_Format(PyExc_ValueError, "factor is given, but %s has no blocks: allowed is None", name);
        else if ((triangle = ha_array_arg(factor, "factor", NPY_FLOAT32, 2, square)))
            work = (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER);
    }
    if (factor == Py_None || work) {
        if ((size_t)columns % ha_dtype_block(dtype))
            PyErr_Format(PyExc_ValueError, "matrix has rows of %zd, allowed for %s are multiples of %zd",
                         (Py_ssize_t)columns, name, (Py_ssize_t)ha_dtype_block(dtype));
        else
            out = packed_rows(work ? work : given, dtype, triangle);
    }
    Py_DECREF(given);
    Py_XDECREF(triangle);
    Py_XDECREF(work);
    return (PyObject *)out;
}

npy_intp ha_stored_columns(PyArrayObject *data, ha_dtype dtype)
{
    const npy_intp bytes = PyArray_DIM(data, 1), block = (npy_intp)ha_dtype_bytes(dtype, ha_dtype_block(dtype));
    if (bytes % block == 0)
        return bytes / block * (npy_intp)ha_dtype_block(dtype);
    PyErr_Format(PyExc_ValueError, "data has rows of %zd bytes, allowed for %s are multiples of %zd", (Py_ssize_t)bytes,
                 ha_dtype_name(dtype), (Py_ssize_t)block);
    return -1;
}

PyObject *ha_unpack_matrix(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "dtype", NULL};
    PyObject *data;
    const char *name;
    ha_dtype dtype;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os:unpack", names, &data, &name) ||
        ha_dtype_parse(name, HA_DTYPE_COUNT, &dtype) < 0)
        return NULL;
    PyArrayObject *in = ha_array_arg(data, "data", NPY_UINT8, 2, NULL), *out = NULL;
    npy_intp shape[2] = {in ? PyArray_DIM(in, 0) : 0, in ? ha_stored_columns(in, dtype) : -1};
    if (in && shape[1] >= 0)
        out = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (out) {
        const void *from = PyArray_DATA(in);
        float *to = PyArray_DATA(out);
        PyThreadState *thread = PyEval_SaveThread();
        ha_kernels_get()->decode[dtype]((size_t)(shape[0] * shape[1]), from, to);
        PyEval_RestoreThread(thread);
    }
    Py_XDECREF(in);
    return (PyObject *)out;
}
