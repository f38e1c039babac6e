/* DLPack both ways, on the CPU: the exchange of memory with NumPy, PyTorch, JAX and others without
 * a copy.
 *
 * The structures are those of the public specification,
 * https://dmlc.github.io/dlpack/latest/c_api.html: the unversioned one that everybody takes, and
 * the versioned one that can say "read-only". A capsule is renamed when it is consumed; one that
 * nobody consumed frees what it holds. */
#include "python/dlpack.h"

#include "python/tensor_memory.h"

typedef struct {
    int32_t type, id;
} dl_device;

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} dl_dtype;

typedef struct {
    void *data;
    dl_device device;
    int32_t ndim;
    dl_dtype dtype;
    int64_t *shape, *strides; /* items; strides NULL: row-major without gaps */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

typedef struct dl_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_versioned;

enum { DL_CPU = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_READ_ONLY = 1, DL_IS_COPY = 2 };
#define PLAIN "dltensor"
#define USED_PLAIN "used_dltensor"
#define VERSIONED "dltensor_versioned"
#define USED_VERSIONED "used_dltensor_versioned"

/* ---- out ------------------------------------------------------------------------------------- */

typedef struct {
    union {
        dl_managed plain;
        dl_versioned versioned;
    } head;
    PyObject *owner;
    int64_t shape[HA_TENSOR_DIMS], strides[HA_TENSOR_DIMS];
} exported;

/* Frees an export and lets its tensor go. */
static void drop(void *context)
{
    exported *given = context;
    /* The consumer may call from any thread, even after the interpreter has gone. */
    if (Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        Py_DECREF(given->owner);
        PyGILState_Release(gil);
    }
    PyMem_RawFree(given);
}

/* The deleter of the unversioned structure. */
static void delete_plain(dl_managed *self)
{
    drop(self->context);
}

/* The deleter of the versioned structure. */
static void delete_versioned(dl_versioned *self)
{
    drop(self->context);
}

/* The destructor of a capsule that we gave out: frees what nobody took over. */
static void free_unconsumed(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, PLAIN)) {
        dl_managed *managed = PyCapsule_GetPointer(capsule, PLAIN);
        managed->deleter(managed);
    } else if (PyCapsule_IsValid(capsule, VERSIONED)) {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, VERSIONED);
        managed->deleter(managed);
    }
}

/* A new capsule over the memory of `tensor`; flags: of the versioned structure. */
static PyObject *export_tensor(ha_tensor *tensor, int versioned, uint64_t flags)
{
    exported *given = PyMem_RawCalloc(1, sizeof *given);
    if (!given)
        return PyErr_NoMemory();
    Py_ssize_t item = (Py_ssize_t)ha_dtype_size(tensor->dtype);
    for (int i = 0; i < tensor->ndim; i++) {
        given->shape[i] = tensor->shape[i];
        given->strides[i] = tensor->strides[i] / item;
    }
    given->owner = Py_NewRef(tensor);
    dl_tensor view = {.data = tensor->data,
                      .device = {DL_CPU, 0},
                      .ndim = tensor->ndim,
                      .dtype = {tensor->dtype == HA_BF16 ? DL_BFLOAT : DL_FLOAT, (uint8_t)(8 * item), 1},
                      .shape = given->shape,
                      .strides = given->strides};
    if (versioned)
        given->head.versioned =
            (dl_versioned){.major = 1, .context = given, .deleter = delete_versioned, .flags = flags, .tensor = view};
    else
        given->head.plain = (dl_managed){.tensor = view, .context = given, .deleter = delete_plain};
    PyObject *capsule = PyCapsule_New(&given->head, versioned ? VERSIONED : PLAIN, free_unconsumed);
    if (!capsule)
        drop(given);
    return capsule;
}

PyObject *ha_tensor_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", names, &stream, &version, &device, &copy))
        return NULL;
    long major = 0, minor = 0, type = DL_CPU, id = 0;
    if (stream != Py_None)
        return PyErr_Format(PyExc_ValueError, "stream is %R, allowed is None: a Tensor lives on the CPU", stream);
    if (version != Py_None &&
        (!PyTuple_Check(version) || !PyArg_ParseTuple(version, "ll;max_version must be two ints", &major, &minor)))
        return PyErr_Occurred()
                   ? NULL
                   : PyErr_Format(PyExc_TypeError, "max_version is %R, expected (major, minor) or None", version);
    if (device != Py_None &&
        (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ll;dl_device must be two ints", &type, &id)))
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_TypeError, "dl_device is %R, expected (type, id) or None", device);
    if (type != DL_CPU || id != 0)
        return PyErr_Format(PyExc_BufferError, "dl_device is %R, allowed is (1, 0), the CPU", device);
    int copied = copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (copied < 0)
        return NULL;
    ha_tensor *tensor = (ha_tensor *)Py_NewRef(object);
    if (copied) {
        Py_SETREF(tensor, ha_tensor_to(tensor, tensor->dtype));
        if (!tensor)
            return NULL;
    }
    PyObject *capsule = NULL;
    if (tensor->readonly && major < 1)
        PyErr_SetString(PyExc_BufferError, "this Tensor is read-only, which DLPack can say from max_version=(1, 0) on");
    else
        capsule =
            export_tensor(tensor, major >= 1, (tensor->readonly ? DL_READ_ONLY : 0u) | (copied ? DL_IS_COPY : 0u));
    Py_DECREF(tensor);
    return capsule;
}

PyObject *ha_tensor_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return Py_BuildValue("ii", DL_CPU, 0);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Capsules that own a consumed structure, and are a tensor's owner. */
#define HELD_PLAIN "hybridattn.dlpack"
#define HELD_VERSIONED "hybridattn.dlpack_versioned"

/* The destructor of a capsule that holds what we took over. */
static void free_held(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, HELD_PLAIN)) {
        dl_managed *managed = PyCapsule_GetPointer(capsule, HELD_PLAIN);
        if (managed->deleter)
            managed->deleter(managed);
    } else {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, HELD_VERSIONED);
        if (managed && managed->deleter)
            managed->deleter(managed);
    }
}

/* obj.__dlpack__(max_version=(1, 0)), or without arguments for producers that know no versions. */
static PyObject *ask(PyObject *object)
{
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__"), *capsule = NULL;
    PyObject *nothing = PyTuple_New(0), *version = Py_BuildValue("{s:(ii)}", "max_version", 1, 0);
    if (method && nothing && version) {
        capsule = PyObject_Call(method, nothing, version);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            capsule = PyObject_CallNoArgs(method);
        }
    }
    Py_XDECREF(method);
    Py_XDECREF(nothing);
    Py_XDECREF(version);
    return capsule;
}

/* True when object.__dlpack_device__() is the CPU; else false with an exception. */
static int on_cpu(PyObject *object)
{
    PyObject *device = PyObject_CallMethod(object, "__dlpack_device__", NULL);
    if (!device)
        return 0;
    PyObject *type = PySequence_GetItem(device, 0);
    long number = type ? PyLong_AsLong(type) : -1; /* an int or an IntEnum */
    if (!PyErr_Occurred() && number != DL_CPU)
        PyErr_Format(PyExc_BufferError, "tensor is on device %R, allowed is the CPU, (1, 0)", device);
    Py_XDECREF(type);
    Py_DECREF(device);
    return !PyErr_Occurred();
}

/* The dtype and shape of t, or -1 with an exception that says what is allowed. */
static int accept(const dl_tensor *tensor, ha_dtype *dtype, Py_ssize_t *shape)
{
    const dl_dtype theirs = tensor->dtype;
    if (tensor->device.type != DL_CPU) {
        PyErr_Format(PyExc_BufferError, "tensor is on device type %d, allowed is 1, the CPU", (int)tensor->device.type);
        return -1;
    }
    if (theirs.lanes == 1 && theirs.code == DL_FLOAT && theirs.bits == 32)
        *dtype = HA_F32;
    else if (theirs.lanes == 1 && theirs.code == DL_FLOAT && theirs.bits == 16)
        *dtype = HA_F16;
    else if (theirs.lanes == 1 && theirs.code == DL_BFLOAT && theirs.bits == 16)
        *dtype = HA_BF16;
    else {
        PyErr_Format(PyExc_BufferError, "tensor has DLPack type code %d with %d bits, allowed are " HA_TENSOR_DTYPES,
                     theirs.code, theirs.bits);
        return -1;
    }
    if (tensor->ndim < 0 || tensor->ndim > HA_TENSOR_DIMS) {
        PyErr_Format(PyExc_BufferError, "tensor has %d dimensions, allowed are 0 to %d", (int)tensor->ndim,
                     HA_TENSOR_DIMS);
        return -1;
    }
    int64_t count = 1, contiguous = 1;
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        shape[i] = (Py_ssize_t)tensor->shape[i];
        contiguous &= !tensor->strides || tensor->shape[i] == 1 || tensor->strides[i] == count;
        count *= tensor->shape[i];
    }
    uintptr_t address = (uintptr_t)tensor->data + (uintptr_t)tensor->byte_offset;
    if ((!contiguous && count) || (count && address % ha_dtype_size(*dtype))) {
        PyErr_SetString(PyExc_BufferError,
                        "tensor must be row-major, without gaps and aligned; a contiguous copy of it is");
        return -1;
    }
    return 0;
}

PyObject *ha_tensor_from_dlpack(PyTypeObject *type, PyObject *object)
{
    PyObject *capsule = on_cpu(object) ? ask(object) : NULL, *held = NULL, *result = NULL;
    if (!capsule)
        return NULL;
    dl_tensor *view = NULL;
    int readonly = 0;
    if (PyCapsule_IsValid(capsule, VERSIONED)) {
        dl_versioned *managed = PyCapsule_GetPointer(capsule, VERSIONED);
        if (managed->major != 1)
            PyErr_Format(PyExc_BufferError, "tensor speaks DLPack %u.%u, allowed is 1.x", managed->major,
                         managed->minor);
        else if ((held = PyCapsule_New(managed, HELD_VERSIONED, NULL))) {
            view = &managed->tensor;
            readonly = (managed->flags & DL_READ_ONLY) != 0;
        }
    } else if (PyCapsule_IsValid(capsule, PLAIN)) {
        dl_managed *managed = PyCapsule_GetPointer(capsule, PLAIN);
        if ((held = PyCapsule_New(managed, HELD_PLAIN, NULL)))
            view = &managed->tensor;
    } else {
        PyErr_Format(PyExc_TypeError, "__dlpack__ returned %R, expected an unused DLPack capsule", capsule);
    }
    ha_dtype dtype;
    Py_ssize_t shape[HA_TENSOR_DIMS];
    /* From the renaming on `held` frees the structure; before it, `capsule` does. */
    if (view && accept(view, &dtype, shape) == 0 &&
        PyCapsule_SetName(capsule, PyCapsule_IsValid(capsule, PLAIN) ? USED_PLAIN : USED_VERSIONED) == 0 &&
        PyCapsule_SetDestructor(held, free_held) == 0) {
        char *data = view->data ? (char *)view->data + view->byte_offset : NULL;
        result = (PyObject *)ha_tensor_new(type, dtype, view->ndim, shape, data, data ? held : NULL, readonly);
    }
    Py_XDECREF(held);
    Py_DECREF(capsule);
    return result;
}
