"""The header of a GGUF file: metadata and tensor places, every length checked against the file.

The `gguf` package reads headers too, but trusts the counts in them: a false one makes it loop or fill the
memory.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..checks import refuse
from ..errors import HybridAttnError, WeightError
from ..reading import stranger
from .mapped import MappedFile


def open_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """The header of a GGUF file, checked. Raises as `open_gguf` does."""
    path = Path(path)
    if not path.is_file():
        raise WeightError(f"{path}: no such file")
    constants = gguf_library().constants
    sizes = {int(kind): (int(n), int(size)) for kind, (n, size) in constants.GGML_QUANT_SIZES.items()}
    return read_header(path, sizes)


def gguf_library() -> ModuleType:
    try:
        import gguf
    except ImportError:
        raise HybridAttnError("GGUF files need the gguf package: pip install hybridattn[gguf]") from None
    return gguf


_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)


class GGUFTensor(NamedTuple):
    """One tensor: ggml type number, shape with the row length last, first byte in the file, bytes."""

    type: int
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass
class GGUFHeader:
    """The open file, its metadata (numbers, text, bools, lists of these), its tensors in file order."""

    mapped: MappedFile
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    def count(self, key: str) -> int:
        """A whole number of at least 1 of the metadata. Raises ConfigError."""
        value = self.metadata.get(key)
        if type(value) is not int or value < 1:
            raise refuse(key, value, "an integer of at least 1")
        return value


class _Cursor:
    """Reads forward through the mapped bytes; a read past the end is a WeightError."""

    def __init__(self, mapped: MappedFile) -> None:
        self.mapped = mapped
        self.at = 0

    def bad(self, reason: str) -> WeightError:
        other = stranger(self.mapped.read(0, min(self.mapped.size, 100)))
        return WeightError(f"{self.mapped.path}: {other or f'not a whole GGUF file: {reason}'}")

    def need(self, size: int, what: str) -> None:
        if size > self.mapped.size - self.at:
            raise self.bad(
                f"{what} at byte {self.at} needs {size} bytes, but the file has {self.mapped.size}"
            )

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        data = self.mapped.read(self.at, size)
        self.at += size
        return data

    def number(self, form: str, what: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form), what))[0]

    def text(self, what: str) -> str:
        data = self.take(self.number("<Q", f"the length of {what}"), what)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is not UTF-8: {error}") from None

    def value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            dtype = np.dtype(_SCALARS[kind])
            return np.frombuffer(self.take(dtype.itemsize, key), dtype)[0].item()
        if kind == _STRING:
            return self.text(key)
        if kind != _ARRAY:
            raise self.bad(f"{key} has the value type {kind}; allowed: 0 to 12")
        kind, count = self.number("<I", key), self.number("<Q", key)
        if kind in _SCALARS:
            dtype = np.dtype(_SCALARS[kind])
            return np.frombuffer(self.take(dtype.itemsize * count, key), dtype).tolist()
        if kind != _STRING:
            raise self.bad(f"{key} is a list with the value type {kind}; allowed: numbers, bools or text")
        self.need(8 * count, key)
        return [self.text(key) for _ in range(count)]


def read_header(path: str | os.PathLike[str], block_sizes: dict[int, tuple[int, int]]) -> GGUFHeader:
    """Open a GGUF file and read its header.

    block_sizes: {ggml type: (values per block, bytes per block)}, types that are not in it are refused.
    Raises WeightError, naming the file and the reason, for anything that does not agree with the file's size.
    """
    mapped = MappedFile(path)
    try:
        return _read(_Cursor(mapped), block_sizes)
    except BaseException:
        mapped.close()
        raise


def _read(cursor: _Cursor, block_sizes: dict[int, tuple[int, int]]) -> GGUFHeader:
    if cursor.take(4, "the magic number") != b"GGUF":
        raise cursor.bad("it does not start with GGUF")
    version = cursor.number("<I", "the version")
    if version not in _VERSIONS:
        raise WeightError(f"{cursor.mapped.path}: GGUF version is {version}; allowed: 2 or 3, little-endian")
    num_tensors, num_keys = cursor.number("<Q", "the tensor count"), cursor.number("<Q", "the key count")
    cursor.need(12 * num_keys, f"a list of {num_keys} keys")
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text("a metadata key")
        if key in metadata:
            raise cursor.bad(f"key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("<I", key), key)
    cursor.need(24 * num_tensors, f"a list of {num_tensors} tensors")
    infos: dict[str, tuple[int, tuple[int, ...], int]] = {}
    for _ in range(num_tensors):
        name = cursor.text("a tensor name")
        if name in infos:
            raise cursor.bad(f"tensor {name!r} occurs twice")
        num_dims = cursor.number("<I", name)
        if not 1 <= num_dims <= 4:
            raise cursor.bad(f"tensor {name!r} has {num_dims} dimensions; allowed: 1 to 4")
        shape = tuple(reversed(struct.unpack(f"<{num_dims}Q", cursor.take(8 * num_dims, name))))
        if 0 in shape:
            raise cursor.bad(f"tensor {name!r} has the shape {list(shape)}; allowed: lengths of at least 1")
        infos[name] = (cursor.number("<I", name), shape, cursor.number("<Q", name))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
        raise cursor.bad(f"general.alignment is {alignment!r}; allowed: a power of two of at least 8")
    start = -(-cursor.at // alignment) * alignment
    tensors = {
        name: _place(name, *info, start, alignment, cursor, block_sizes) for name, info in infos.items()
    }
    end, before = start, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if tensor.offset < end:
            raise cursor.bad(f"tensors {before!r} and {name!r} overlap")
        end, before = tensor.offset + tensor.size, name
    return GGUFHeader(cursor.mapped, metadata, tensors)


def _place(
    name: str,
    kind: int,
    shape: tuple[int, ...],
    offset: int,
    start: int,
    alignment: int,
    cursor: _Cursor,
    block_sizes: dict[int, tuple[int, int]],
) -> GGUFTensor:
    if kind not in block_sizes:
        raise cursor.bad(f"tensor {name!r} has the unknown type number {kind}")
    values, size = block_sizes[kind]
    if shape[-1] % values:
        raise cursor.bad(
            f"tensor {name!r} has rows of {shape[-1]}, which is not a multiple of its block, {values}"
        )
    for length in shape:
        size *= length
    size //= values
    if offset % alignment:
        raise cursor.bad(f"tensor {name!r} starts at {offset}, which is not a multiple of {alignment}")
    if start + offset + size > cursor.mapped.size:
        raise cursor.bad(
            f"tensor {name!r} ends at byte {start + offset + size}, but the file has "
            f"{cursor.mapped.size} bytes"
        )
    return GGUFTensor(kind, shape, start + offset, size)
