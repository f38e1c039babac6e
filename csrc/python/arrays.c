/* Objects to arrays and tuples, with errors that name the argument. */
#include "python/arrays.h"

/* How an error calls a NumPy type. */
static const char *type_name(int type)
{
    switch (type) {
    case NPY_FLOAT32:
        return "float32";
    case NPY_FLOAT64:
        return "float64";
    case NPY_INT32:
        return "int32";
    case NPY_INT64:
        return "int64";
    case NPY_BOOL:
        return "bool";
    default:
        return "the expected type";
    }
}

/* 0 when an array has that many dimensions (-1: any) and the lengths of `shape` that are not
 * negative; else -1 with a ValueError. */
static int check(PyArrayObject *array, const char *name, int ndim, const npy_intp *shape)
{
    if (ndim >= 0 && PyArray_NDIM(array) != ndim) {
        PyErr_Format(PyExc_ValueError, "%s has %d dimensions, expected %d", name, PyArray_NDIM(array), ndim);
        return -1;
    }
    for (int i = 0; shape && i < ndim; i++)
        if (shape[i] >= 0 && PyArray_DIM(array, i) != shape[i]) {
            PyErr_Format(PyExc_ValueError, "%s has length %zd along axis %d, expected %zd", name,
                         (Py_ssize_t)PyArray_DIM(array, i), i, (Py_ssize_t)shape[i]);
            return -1;
        }
    return 0;
}

/* Narrowing to int32 must keep every value: 2^32 + 1 is not token 1. */
static int check_narrowing(PyArrayObject *wide, PyArrayObject *narrow, const char *name)
{
    PyObject *same = PyObject_RichCompare((PyObject *)wide, (PyObject *)narrow, Py_EQ);
    PyObject *all = same ? PyObject_CallMethod(same, "all", NULL) : NULL;
    int ok = all ? PyObject_IsTrue(all) : -1;
    Py_XDECREF(same);
    Py_XDECREF(all);
    if (ok == 0)
        PyErr_Format(PyExc_ValueError, "%s has values that do not fit in int32", name);
    return ok > 0 ? 0 : -1;
}

PyArrayObject *ha_array_arg(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape)
{
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_O(object);
    if (!any)
        return NULL;
    PyArray_Descr *descr = PyArray_DescrFromType(type);
    /* Integers of any width are welcome as ids; floats never become integers. */
    int ok = PyArray_CanCastArrayTo(any, descr, PyTypeNum_ISINTEGER(type) ? NPY_SAME_KIND_CASTING : NPY_SAFE_CASTING) ||
             (type == NPY_FLOAT32 && PyArray_CanCastArrayTo(any, descr, NPY_SAME_KIND_CASTING)) ||
             (type == NPY_BOOL && PyTypeNum_ISINTEGER(PyArray_TYPE(any)));
    if (!ok) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %R, expected %s", name, (PyObject *)PyArray_DESCR(any),
                     type_name(type));
        Py_DECREF(descr);
        Py_DECREF(any);
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_FromArray(any, descr, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    if (array && type == NPY_INT32 && PyArray_ITEMSIZE(any) > 4 && check_narrowing(any, array, name) < 0)
        Py_CLEAR(array);
    Py_DECREF(any);
    if (array && check(array, name, ndim, shape) < 0)
        Py_CLEAR(array);
    return array;
}

PyArrayObject *ha_array_out(PyObject *object, const char *name, int type, int ndim, const npy_intp *shape)
{
    if (!PyArray_Check(object) || PyArray_TYPE((PyArrayObject *)object) != type ||
        !PyArray_ISCARRAY((PyArrayObject *)object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a writable C-contiguous %s array", name, type_name(type));
        return NULL;
    }
    if (check((PyArrayObject *)object, name, ndim, shape) < 0)
        return NULL;
    Py_INCREF(object);
    return (PyArrayObject *)object;
}

PyObject *ha_tuple_arg(PyObject *object, const char *name, const char *what)
{
    if (PySequence_Check(object))
        return PySequence_Tuple(object);
    return PyErr_Format(PyExc_TypeError, "%s must be %s", name, what);
}
