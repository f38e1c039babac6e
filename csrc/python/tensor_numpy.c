/* Tensor and NumPy: numpy(), __array__ and from_numpy, all over the same memory. */
#include "python/tensor_numpy.h"

#include "python/tensor_memory.h"

#include <string.h>

/* bfloat16 as ml_dtypes has it; its bits as uint16 where that package is absent. A new
 * reference. */
static PyArray_Descr *bfloat16_descr(void)
{
    PyArray_Descr *descr = NULL;
    PyObject *module = PyImport_ImportModule("ml_dtypes");
    PyObject *scalar = module ? PyObject_GetAttrString(module, "bfloat16") : NULL;
    Py_XDECREF(module);
    if (scalar) {
        PyArray_DescrConverter(scalar, &descr);
        Py_DECREF(scalar);
    } else if (PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear();
        descr = PyArray_DescrFromType(NPY_UINT16);
    }
    return descr;
}

PyObject *ha_tensor_numpy(PyObject *object, PyObject *unused)
{
    (void)unused;
    ha_tensor *self = (ha_tensor *)object;
    PyArray_Descr *descr = self->dtype == HA_BF16
                               ? bfloat16_descr()
                               : PyArray_DescrFromType(self->dtype == HA_F16 ? NPY_HALF : NPY_FLOAT32);
    if (!descr)
        return NULL;
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, descr, self->ndim, self->shape, self->strides, self->data,
                                           self->readonly ? NPY_ARRAY_CARRAY_RO : NPY_ARRAY_CARRAY, NULL);
    if (array && PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(object)) < 0)
        Py_CLEAR(array);
    return array;
}

/* __array__(dtype=None, copy=None), as NumPy 2 asks for it: copy True always, None where needed,
 * False never. */
PyObject *ha_tensor_as_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dtype", "copy", NULL};
    PyArray_Descr *wanted = NULL;
    PyObject *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&O:__array__", names, PyArray_DescrConverter2, &wanted, &copy))
        return NULL;
    int always = copy == Py_None ? 0 : PyObject_IsTrue(copy), never = copy != Py_None && always == 0;
    PyArrayObject *array = always < 0 ? NULL : (PyArrayObject *)ha_tensor_numpy(self, NULL);
    PyObject *result = (PyObject *)array;
    if (array && wanted && !PyArray_EquivTypes(PyArray_DESCR(array), wanted)) {
        if (never) {
            PyErr_Format(PyExc_ValueError, "a Tensor of %s becomes an array of %R by copying only, and copy is False",
                         ha_dtype_name(((ha_tensor *)self)->dtype), (PyObject *)wanted);
            result = NULL;
        } else { /* through float32: where ml_dtypes is absent the array holds bits, not numbers */
            ha_tensor *plain = ha_tensor_to((ha_tensor *)self, HA_F32);
            PyObject *numbers = plain ? ha_tensor_numpy((PyObject *)plain, NULL) : NULL;
            result =
                numbers ? PyArray_CastToType((PyArrayObject *)numbers, (PyArray_Descr *)Py_NewRef(wanted), 0) : NULL;
            Py_XDECREF(numbers);
            Py_XDECREF(plain);
        }
        Py_DECREF(array);
    } else if (array && always) {
        result = PyArray_NewCopy(array, NPY_CORDER);
        Py_DECREF(array);
    }
    Py_XDECREF(wanted);
    return result;
}

PyObject *ha_tensor_from_numpy(PyObject *class, PyObject *object)
{
    if (!PyArray_Check(object))
        return PyErr_Format(PyExc_TypeError, "array is a %s, expected numpy.ndarray", Py_TYPE(object)->tp_name);
    PyArrayObject *array = (PyArrayObject *)object;
    PyArray_Descr *descr = PyArray_DESCR(array);
    const char *scalar = strrchr(descr->typeobj->tp_name, '.');
    ha_dtype dtype;
    if (PyArray_TYPE(array) == NPY_FLOAT32)
        dtype = HA_F32;
    else if (PyArray_TYPE(array) == NPY_HALF)
        dtype = HA_F16;
    else if (PyTypeNum_ISUSERDEF(PyArray_TYPE(array)) &&
             !strcmp(scalar ? scalar + 1 : descr->typeobj->tp_name, "bfloat16"))
        dtype = HA_BF16;
    else
        return PyErr_Format(PyExc_TypeError, "array has dtype %R, allowed are " HA_TENSOR_DTYPES, (PyObject *)descr);
    if (!PyArray_IS_C_CONTIGUOUS(array) || !PyArray_ISALIGNED(array) || !PyArray_ISNOTSWAPPED(array))
        return PyErr_Format(PyExc_ValueError, "array must be C-contiguous, aligned and of native byte order; "
                                              "numpy.ascontiguousarray(array) makes a copy that is");
    return (PyObject *)ha_tensor_new((PyTypeObject *)class, dtype, PyArray_NDIM(array), PyArray_DIMS(array),
                                     PyArray_DATA(array), object, !PyArray_ISWRITEABLE(array));
}
