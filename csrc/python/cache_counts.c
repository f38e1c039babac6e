/* Lengths of a cache as an array, and arrays as lengths. */
#include "python/cache_counts.h"

#include "python/arrays.h"

PyObject *ha_cache_lengths(cache_object *self)
{
    npy_intp count = ha_cache_sequences(self->cache);
    PyObject *array = PyArray_SimpleNew(1, &count, NPY_INT64);
    for (int s = 0; array && s < count; s++)
        ((int64_t *)PyArray_DATA((PyArrayObject *)array))[s] = ha_cache_length(self->cache, s);
    return array;
}

int *ha_cache_counts(cache_object *self, PyObject *object, const char *name, int beside)
{
    const int sequences = ha_cache_sequences(self->cache);
    const npy_intp shape[1] = {sequences};
    PyArrayObject *array = ha_array_arg(object, name, NPY_INT64, 1, shape);
    int *counts = array ? PyMem_Calloc((size_t)sequences, sizeof *counts) : NULL;
    if (array && !counts)
        PyErr_NoMemory();
    for (int s = 0; counts && s < sequences; s++) {
        int64_t count = ((int64_t *)PyArray_DATA(array))[s];
        int64_t most = INT32_MAX / 4 - (beside ? ha_cache_length(self->cache, s) : 0);
        if (count < 0 || count > most) {
            PyErr_Format(PyExc_ValueError, "%s[%d] is %lld, allowed are 0 to %lld", name, s, (long long)count,
                         (long long)most);
            PyMem_Free(counts);
            counts = NULL;
        } else
            counts[s] = (int)count;
    }
    Py_XDECREF(array);
    return counts;
}
