"""Tensor: memory shared without copies, and refused where it cannot be shared."""

from __future__ import annotations

import ctypes
import sys

import ml_dtypes
import numpy as np
import pytest
from counted_tensor import DTYPES, counted
from leaks import Old

from hybridattn._core import Tensor

by_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3), (1,) * 8])
@by_dtype
def test_zeros(shape, dtype):
    tensor = Tensor(shape, dtype)
    assert (tensor.shape, tensor.dtype, tensor.ndim) == (shape, dtype, len(shape))
    assert tensor.nbytes == np.prod(shape, dtype=int) * np.dtype(DTYPES[dtype]).itemsize
    array = tensor.numpy()
    assert array.shape == shape and array.dtype == DTYPES[dtype]
    assert not array.any()
    assert repr(tensor) == f"Tensor(shape={shape}, dtype='{dtype}')"


def test_shape_may_be_an_int_or_a_list():
    assert Tensor(3).shape == (3,) and Tensor([2, 1]).shape == (2, 1) and Tensor(np.int64(4)).shape == (4,)


def test_length():
    assert len(Tensor((4, 2))) == 4
    with pytest.raises(TypeError, match="no length"):
        len(Tensor(()))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (((2,), "int8"), ValueError, "dtype is 'int8', allowed are float32, bfloat16, float16"),
        (((2, -1),), ValueError, r"shape\[1\] is -1, allowed is 0 or more"),
        (((1,) * 9,), ValueError, "shape has 9 dimensions, allowed are 0 to 8"),
        ((2.5,), TypeError, "shape must be an int or a sequence of ints"),
        ((("a",),), TypeError, "integer"),
        (((2**62, 4),), MemoryError, "larger than the address space"),
        (((2**45,),), MemoryError, None),
        ((2**70,), OverflowError, "fit"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Tensor(*arguments)


def test_the_type_is_closed():
    with pytest.raises(TypeError):
        type("Mine", (Tensor,), {})
    with pytest.raises(AttributeError):
        Tensor(1).shape = (2,)
    with pytest.raises(TypeError):
        Tensor.numpy = None


@by_dtype
def test_to_rounds_like_numpy(dtype):
    edges = [65504, 65520, 1e-7, 6e-8, 3e38, 1.00390625, np.inf, -np.inf, np.nan]
    values = np.float32([0, -0.0, 1, 1 / 3, *edges])
    with np.errstate(over="ignore"):
        expected = values.astype(DTYPES[dtype])
    tensor = Tensor.from_numpy(values)
    assert np.array_equal(tensor.to(dtype).numpy(), expected, equal_nan=True)
    assert np.array_equal(tensor.to(dtype).to("float32").numpy(), expected.astype(np.float32), equal_nan=True)
    copy = tensor.to("float32")
    copy.numpy()[0] = 7
    assert values[0] == 0


def test_to_converts_more_than_one_block():
    values = np.random.default_rng(0).standard_normal((50, 83)).astype(np.float32)
    expected = values.astype(ml_dtypes.bfloat16)
    assert np.array_equal(Tensor.from_numpy(values).to("bfloat16").numpy(), expected)


def test_to_names_what_is_allowed():
    for wrong, error in (("double", ValueError), (np.float32, TypeError)):
        with pytest.raises(error, match="allowed are float32, bfloat16, float16"):
            Tensor(1).to(wrong)


@by_dtype
def test_numpy_shares_memory_both_ways(dtype):
    array = np.zeros((2, 3), DTYPES[dtype])
    tensor = Tensor.from_numpy(array)
    array[1, 2] = 5
    assert tensor.numpy()[1, 2] == 5
    tensor.numpy()[0, 0] = 3
    assert array[0, 0] == 3
    for view in (tensor.numpy(), np.asarray(tensor)):
        assert np.shares_memory(view, array) and view.dtype == array.dtype and view.flags.c_contiguous


@by_dtype
def test_array_protocol(dtype):
    tensor = counted(dtype)
    expected = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(np.asarray(tensor, dtype=np.float64), expected)
    assert np.array_equal(np.array(tensor), expected)
    assert not np.shares_memory(tensor.__array__(copy=True), tensor.numpy())
    assert np.shares_memory(tensor.__array__(copy=False), tensor.numpy())
    assert tensor.__array__(np.float64).dtype == np.float64
    with pytest.raises(ValueError, match=f"a Tensor of {dtype} becomes .* copy is False"):
        tensor.__array__(np.float64, copy=False)


def test_bfloat16_without_ml_dtypes_is_bits(monkeypatch):
    tensor = counted("bfloat16")
    bits = tensor.numpy().view(np.uint16)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert tensor.numpy().dtype == np.uint16 and np.array_equal(tensor.numpy(), bits)
    assert np.array_equal(tensor.__array__(np.float32), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "array, error, message",
    [
        (np.zeros(3), TypeError, "array has dtype .*float64.*, allowed are float32, bfloat16, float16"),
        (np.zeros(3, np.uint16), TypeError, "allowed are"),
        (np.zeros((3, 4), np.float32).T, ValueError, "array must be C-contiguous"),
        (np.zeros(8, np.float32)[::2], ValueError, "ascontiguousarray"),
        (np.zeros(3, ">f4"), ValueError, "native byte order"),
        (np.frombuffer(b"\0" * 9, np.float32, offset=1, count=2), ValueError, "aligned"),
        ([1.0], TypeError, "array is a list, expected numpy.ndarray"),
    ],
)
def test_from_numpy_refuses(array, error, message):
    with pytest.raises(error, match=message):
        Tensor.from_numpy(array)


@pytest.mark.parametrize("dtype, code", [("float32", "f"), ("float16", "e")])
def test_buffer(dtype, code):
    tensor = counted(dtype)
    view = memoryview(tensor)
    assert (view.format, view.shape, view.nbytes, view.readonly) == (code, (2, 3), tensor.nbytes, False)
    assert view.c_contiguous and view.strides == tensor.numpy().strides
    assert bytes(tensor) == tensor.numpy().tobytes()
    view.cast("B")[:] = bytes(tensor.nbytes)
    assert not tensor.numpy().any()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 3), (3, 1, 1), (2, 0, 3)])
def test_a_fortran_buffer_is_what_numpy_gives(shape):
    """PyBUF_F_CONTIGUOUS asks for column-major memory."""
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get.argtypes, release.argtypes = (ctypes.py_object, ctypes.c_void_p, ctypes.c_int), (ctypes.c_void_p,)

    def fortran(object) -> bool:
        view = ctypes.create_string_buffer(256)  # more than a Py_buffer
        try:
            get(object, view, 0x40 | 0x10 | 0x08)
        except (BufferError, ValueError):
            return False
        release(view)
        return True

    assert fortran(Tensor(shape)) == fortran(np.zeros(shape, np.float32)) == (shape != (2, 3))


def test_bfloat16_has_no_buffer_format():
    """With an integer format np.asarray would turn bits into numbers."""
    with pytest.raises(BufferError, match="bfloat16 has no buffer format"):
        memoryview(counted("bfloat16"))
    assert np.asarray(counted("bfloat16")).dtype == ml_dtypes.bfloat16


def test_read_only_stays_read_only():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    tensor = Tensor.from_numpy(array)
    assert not tensor.numpy().flags.writeable
    assert memoryview(tensor).readonly
    assert tensor.to("float32").numpy().flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__()
    assert not Tensor.from_dlpack(tensor).numpy().flags.writeable


class Once:
    """A producer with one capsule for everybody."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **options):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


@pytest.mark.parametrize("wrap", [lambda x: x, Old], ids=["versioned", "unversioned"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dlpack_with_numpy(dtype, wrap):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    tensor = Tensor.from_dlpack(wrap(array))
    assert (tensor.shape, tensor.dtype) == ((2, 3), dtype)
    tensor.numpy()[0, 0] = 9
    assert array[0, 0] == 9
    back = np.from_dlpack(tensor)
    assert np.shares_memory(back, array) and np.array_equal(back, array)


@pytest.mark.parametrize("wrap", [lambda x: x, Old], ids=["versioned", "unversioned"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
@by_dtype
def test_dlpack_round_trip(dtype, shape, wrap):
    tensor = Tensor(shape, dtype)
    again = Tensor.from_dlpack(wrap(tensor))
    assert (again.shape, again.dtype) == (shape, dtype)
    tensor.numpy()[...] = 4
    assert (again.numpy() == 4).all()


def test_dlpack_arguments():
    tensor = counted()
    assert tensor.__dlpack_device__() == (1, 0)
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor"' in repr(tensor.__dlpack__(max_version=(0, 8), dl_device=(1, 0), copy=False))
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 0)))
    copy = Tensor.from_dlpack(Once(tensor.__dlpack__(max_version=(1, 1), copy=True))).numpy()
    assert not np.shares_memory(copy, tensor.numpy()) and np.array_equal(copy, tensor.numpy())
    for wrong, error in (
        ({"stream": 1}, ValueError),
        ({"dl_device": (2, 0)}, BufferError),
        ({"dl_device": 1}, TypeError),
        ({"max_version": 1}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(wrong))):
            tensor.__dlpack__(**wrong)


@pytest.mark.parametrize(
    "source, error, message",
    [
        (np.zeros(3), BufferError, "type code 2 with 64 bits, allowed are float32, bfloat16, float16"),
        (np.zeros(3, np.int32), BufferError, "type code 0 with 32 bits"),
        (np.zeros((3, 4), np.float32)[:, :2], BufferError, "row-major"),
        (np.zeros((3, 4), np.float32).T, BufferError, "row-major"),
        (np.zeros((1,) * 9, np.float32), BufferError, "9 dimensions, allowed are 0 to 8"),
        (Old(np.zeros(3, np.float32), device=(2, 0)), BufferError, r"device \(2, 0\), allowed is the CPU"),
        (3, AttributeError, "__dlpack_device__"),
    ],
)
def test_from_dlpack_refuses(source, error, message):
    with pytest.raises(error, match=message):
        Tensor.from_dlpack(source)


def test_a_capsule_is_consumed_once():
    source = Once(np.zeros(3, np.float32).__dlpack__())
    assert Tensor.from_dlpack(source).shape == (3,)
    with pytest.raises(TypeError, match="expected an unused DLPack capsule"):
        Tensor.from_dlpack(source)
