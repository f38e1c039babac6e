/* class Tensor, in Python terms:
 *
 *     Tensor(shape, dtype="float32")                   zeros
 *     Tensor.from_numpy(array), Tensor.from_dlpack(x)  the same memory
 *     .shape .dtype .nbytes .ndim  len(t)
 *     .numpy()  np.asarray(t)  memoryview(t)           the same memory, the tensor stays alive
 *     np.from_dlpack(t)
 *     .to(dtype)                                       a converted copy
 *
 * There is no tp_clear: memory stays valid while a tensor can be reached, and a cycle is broken at
 * its owner. */
#include "python/tensor.h"

#include "python/arrays.h"
#include "python/dlpack.h"
#include "python/dtype_arg.h"
#include "python/tensor_memory.h"
#include "python/tensor_numpy.h"

static void dealloc(PyObject *object)
{
    ha_tensor *self = (ha_tensor *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (!self->owner)
        PyMem_RawFree(self->data);
    Py_XDECREF(self->owner);
    type->tp_free(object);
    Py_DECREF(type);
}

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((ha_tensor *)object)->owner);
    return 0;
}

/* shape: an int, or a sequence of ints. Returns the number of dimensions or -1. */
static int shape_of(PyObject *object, Py_ssize_t *shape)
{
    if (PyIndex_Check(object)) {
        shape[0] = PyNumber_AsSsize_t(object, PyExc_OverflowError);
        return shape[0] == -1 && PyErr_Occurred() ? -1 : 1;
    }
    PyObject *items = ha_tuple_arg(object, "shape", "an int or a sequence of ints");
    if (!items)
        return -1;
    Py_ssize_t ndim = PyTuple_GET_SIZE(items);
    if (ndim > HA_TENSOR_DIMS) {
        PyErr_Format(PyExc_ValueError, "shape has %zd dimensions, allowed are 0 to %d", ndim, HA_TENSOR_DIMS);
        ndim = -1;
    }
    for (Py_ssize_t i = 0; i < ndim; i++) {
        shape[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(items, i), PyExc_OverflowError);
        if (shape[i] == -1 && PyErr_Occurred())
            ndim = -1;
    }
    Py_DECREF(items);
    return (int)ndim;
}

/* Tensor(shape, dtype="float32"), of zeros */
static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shape", "dtype", NULL};
    PyObject *object;
    const char *name = "float32";
    Py_ssize_t shape[HA_TENSOR_DIMS];
    ha_dtype dtype;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|s:Tensor", names, &object, &name) ||
        ha_dtype_parse(name, HA_PLAIN_DTYPES, &dtype) < 0)
        return NULL;
    int ndim = shape_of(object, shape);
    return ndim < 0 ? NULL : (PyObject *)ha_tensor_new(type, dtype, ndim, shape, NULL, NULL, 0);
}

/* Tensor.to(dtype) */
static PyObject *to(PyObject *self, PyObject *name)
{
    ha_dtype dtype;
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    if (!text)
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_TypeError, "dtype is %R, allowed are " HA_TENSOR_DTYPES, name);
    return ha_dtype_parse(text, HA_PLAIN_DTYPES, &dtype) < 0 ? NULL
                                                             : (PyObject *)ha_tensor_to((ha_tensor *)self, dtype);
}

/* Tensor.from_dlpack(tensor) */
static PyObject *from_dlpack(PyObject *class, PyObject *object)
{
    return ha_tensor_from_dlpack((PyTypeObject *)class, object);
}

/* The buffer protocol: the memory as it is; bfloat16 only for those who ask for no format. */
static int get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    static const char *const format[HA_PLAIN_DTYPES] = {[HA_F32] = "f", [HA_F16] = "e"};
    ha_tensor *self = (ha_tensor *)object;
    *view = (Py_buffer){0};
    if (self->dtype == HA_BF16 && flags & PyBUF_FORMAT) {
        /* An integer format would make np.asarray, which asks for buffers first, return bits in
         * place of numbers. */
        PyErr_SetString(PyExc_BufferError,
                        "bfloat16 has no buffer format: use numpy(), or numpy().view('uint16') for its bits");
        return -1;
    }
    if (self->readonly && flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "this Tensor is read-only");
        return -1;
    }
    int long_axes = 0; /* with at most one of them row-major is column-major too */
    for (int i = 0; i < self->ndim; i++)
        long_axes += self->shape[i] > 1;
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && long_axes > 1 && self->count) {
        PyErr_SetString(PyExc_BufferError, "a Tensor of several axes is row-major, not Fortran-contiguous");
        return -1;
    }
    Py_ssize_t item = (Py_ssize_t)ha_dtype_size(self->dtype);
    *view = (Py_buffer){.obj = Py_NewRef(object),
                        .buf = self->data,
                        .len = self->count * item,
                        .itemsize = item,
                        .readonly = self->readonly,
                        .ndim = self->ndim,
                        .format = flags & PyBUF_FORMAT ? (char *)format[self->dtype] : NULL,
                        .shape = flags & PyBUF_ND ? self->shape : NULL,
                        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL};
    return 0;
}

/* A tuple of ints. */
static PyObject *get_shape(PyObject *object, void *unused)
{
    (void)unused;
    const ha_tensor *self = (ha_tensor *)object;
    return PyArray_IntTupleFromIntp(self->ndim, self->shape);
}

/* The dtype by name. */
static PyObject *get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(ha_dtype_name(((ha_tensor *)self)->dtype));
}

/* Bytes of the memory. */
static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((ha_tensor *)self)->count * (Py_ssize_t)ha_dtype_size(((ha_tensor *)self)->dtype));
}

/* Axes. */
static PyObject *get_ndim(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((ha_tensor *)self)->ndim);
}

/* Tensor(shape=..., dtype='...') */
static PyObject *repr(PyObject *object)
{
    ha_tensor *self = (ha_tensor *)object;
    PyObject *shape = get_shape(object, NULL);
    PyObject *text =
        shape ? PyUnicode_FromFormat("Tensor(shape=%R, dtype='%s')", shape, ha_dtype_name(self->dtype)) : NULL;
    Py_XDECREF(shape);
    return text;
}

/* Length of the first axis; a TypeError without one. */
static Py_ssize_t length(PyObject *object)
{
    ha_tensor *self = (ha_tensor *)object;
    if (self->ndim)
        return self->shape[0];
    PyErr_SetString(PyExc_TypeError, "a Tensor without dimensions has no length");
    return -1;
}

static PyGetSetDef getset[] = {
    {"shape", get_shape, NULL, "Lengths of the axes, a tuple.", NULL},
    {"dtype", get_dtype, NULL, "'float32', 'bfloat16' or 'float16'.", NULL},
    {"nbytes", get_nbytes, NULL, "Size of the memory in bytes.", NULL},
    {"ndim", get_ndim, NULL, "Number of axes.", NULL},
    {0},
};

#define WITH_KEYWORDS(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef methods[] = {
    {"numpy", ha_tensor_numpy, METH_NOARGS,
     "numpy($self)\n--\n\nAn ndarray over the same memory, which keeps this tensor alive. bfloat16 "
     "is ml_dtypes.bfloat16, or uint16 (its bits) where ml_dtypes is not installed."},
    {"to", to, METH_O,
     "to($self, dtype, /)\n--\n\nA copy converted to 'float32', 'bfloat16' or 'float16', to nearest even."},
    {"from_numpy", ha_tensor_from_numpy, METH_O | METH_CLASS,
     "from_numpy($type, array, /)\n--\n\nA tensor over an array's memory, "
     "writable if the array is. float32, float16 or ml_dtypes.bfloat16, C-contiguous."},
    {"from_dlpack", from_dlpack, METH_O | METH_CLASS,
     "from_dlpack($type, tensor, /)\n--\n\nA tensor over the memory of any object "
     "with __dlpack__ on the CPU. float32, float16 or bfloat16, row-major without gaps; else BufferError."},
    {"__array__", WITH_KEYWORDS(ha_tensor_as_array), METH_VARARGS | METH_KEYWORDS,
     "__array__($self, dtype=None, copy=None)\n--\n\nFor NumPy."},
    {"__dlpack__", WITH_KEYWORDS(ha_tensor_dlpack), METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\nA DLPack capsule over the "
     "same memory."},
    {"__dlpack_device__", ha_tensor_dlpack_device, METH_NOARGS, "__dlpack_device__($self)\n--\n\n(1, 0): the CPU."},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "Tensor(shape, dtype='float32')\n--\n\nMemory with a shape (an int or ints) and a dtype ('float32', 'bfloat16', "
     "'float16'), zeroed. Shares it with NumPy, the buffer protocol and DLPack without a copy."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_repr, repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_sq_length, length},
    {Py_bf_getbuffer, get_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "hybridattn._core.Tensor",
    .basicsize = sizeof(ha_tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int ha_add_tensor(PyObject *module, module_state *state)
{
    state->tensor = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->tensor ? PyModule_AddType(module, state->tensor) : -1;
}
