"""Tensors from safetensors files, and into them.

A file is checked before anything is read: every size in its header must agree with the file. Tensors are
mapped, and converted one by one on the copy into their destination, so that memory peaks at the destination
plus one tensor.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ..errors import WeightError
from ..files import atomic_open
from ..reading import parse_json, read_json, stranger
from ..results.progress import bar
from .dtypes import Bytes
from .mapped import MappedFile
from .other_weights import other_weights
from .source import WeightSource

_ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}
_READABLE = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
_WRITABLE = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float64): "F64",
    np.dtype(np.int32): "I32",
    np.dtype(np.int64): "I64",
    np.dtype(np.uint16): "U16",
    np.dtype(np.uint8): "U8",
    np.dtype(np.bool_): "BOOL",
}
_HEADER_LIMIT = 100_000_000  # the format's own limit


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    offset: int  # of the first byte, from the start of the file
    size: int


def open_weights(path: str | os.PathLike[str]) -> WeightSource:
    """Open a folder with `model.safetensors` or its sharded index, or one .safetensors file.

    Headers are checked here; WeightError names the file and the reason. The result is a context manager.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        raise WeightError(
            f"{path}: is a GGUF file, which gguf_file.open_gguf opens; allowed here: safetensors"
        )
    if path.is_file():
        return SafetensorsSource(path, [path])
    if not path.is_dir():
        raise WeightError(f"{path}: no such folder or weight file")
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return SafetensorsSource(path, [single])
    if index.is_file():
        shards = _read_index(index)
        # what the index says of single tensors is not held against it: some name tensors that no shard has
        return SafetensorsSource(path, sorted({path / shard for shard in shards.values()}))
    raise WeightError(
        f"{path}: has neither model.safetensors nor model.safetensors.index.json{other_weights(path)}"
    )


def _read_index(index: Path) -> dict[str, str]:
    """The weight_map of a sharded model, {tensor name: file name}, all files present in the folder."""
    try:
        shards = read_json(index, WeightError)["weight_map"]
        if not isinstance(shards, dict) or not shards or not all(isinstance(v, str) for v in shards.values()):
            raise TypeError("weight_map is not an object of file names")
    except (KeyError, TypeError) as error:
        raise WeightError(f"{index}: not a safetensors index with a weight_map: {error}") from None
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard:
            raise WeightError(
                f"{index}: weight_map names the file {shard!r}; allowed: a file of the same folder"
            )
        if not (index.parent / shard).is_file():
            raise WeightError(f"{index}: the file {shard} is missing")
    return shards


class SafetensorsSource(WeightSource):
    """One or more safetensors files seen as one set of tensors."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self._maps: list[MappedFile] = []
        self._entries: dict[str, tuple[MappedFile, _Entry]] = {}
        try:
            for file in files:
                mapped = MappedFile(file)
                self._maps.append(mapped)
                for name, entry in _read_header(mapped).items():
                    twin = self._entries.setdefault(name, (mapped, entry))
                    if twin[0] is not mapped and not _same_bytes(twin, (mapped, entry)):
                        raise WeightError(
                            f"{file}: weight {name!r} is also in {twin[0].path.name}, with other values"
                        )
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._find(name)[1].shape

    def file(self, name: str) -> Path:
        return self._find(name)[0].path

    def read_into(self, name: str, out: np.ndarray) -> None:
        self.check_out(name, out)
        out[...] = self.view(name)
        self.drop(name)

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        mapped, entry = self._find(name)
        dtype = {"F16": "float16", "BF16": "bfloat16"}.get(entry.dtype)
        if dtype is None or len(entry.shape) != 2 or entry.offset % 2:
            return None
        return dtype, mapped.view(np.uint8, entry.offset, entry.size).reshape(entry.shape[0], -1)

    def drop(self, name: str) -> None:
        mapped, entry = self._find(name)
        mapped.drop(entry.offset, entry.size)

    def view(self, name: str) -> np.ndarray:
        """The tensor as it is stored, mapped and read-only: float32, float16 or ml_dtypes.bfloat16."""
        mapped, entry = self._find(name)
        if entry.dtype not in _READABLE:
            raise WeightError(
                f"{mapped.path}: weight {name!r} has dtype {entry.dtype}; allowed: {', '.join(_READABLE)}"
            )
        return mapped.view(_READABLE[entry.dtype], entry.offset, math.prod(entry.shape)).reshape(entry.shape)

    def close(self) -> None:
        for mapped in self._maps:
            mapped.close()

    def _find(self, name: str) -> tuple[MappedFile, _Entry]:
        try:
            return self._entries[name]
        except KeyError:
            raise WeightError(f"{self.path}: has no weight {name!r}") from None


def _same_bytes(a: tuple[MappedFile, _Entry], b: tuple[MappedFile, _Entry]) -> bool:
    """Whether two places hold one tensor."""
    if (a[1].dtype, a[1].shape) != (b[1].dtype, b[1].shape):
        return False
    first, second = (file.view(np.uint8, entry.offset, entry.size) for file, entry in (a, b))
    return bool(np.array_equal(first, second))


def _read_header(mapped: MappedFile) -> dict[str, _Entry]:
    """The tensors of one safetensors file, after checking that header and file agree to the byte."""
    path, size = mapped.path, mapped.size

    def bad(reason: str) -> WeightError:
        other = stranger(mapped.read(0, min(size, 100)))
        return WeightError(f"{path}: {other or f'not a whole safetensors file: {reason}'}")

    if size < 8:
        raise bad(f"it has {size} bytes, fewer than the 8 of the header length")
    (length,) = struct.unpack("<Q", mapped.read(0, 8))
    if length > _HEADER_LIMIT or 8 + length > size:
        raise bad(f"its header length is {length}, but the file has {size} bytes")
    start, data_size = 8 + length, size - 8 - length

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    header = parse_json(
        mapped.read(8, length), f"{path}: not a whole safetensors file: its header", WeightError, unique
    )
    if not isinstance(header, dict):
        raise bad("its header is not an object")
    header.pop("__metadata__", None)
    entries = {name: _read_entry(name, value, start, data_size, bad) for name, value in header.items()}
    end = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset != end:
            raise bad(
                f"tensor {name!r} starts at byte {entry.offset - start} of the data, not at {end - start}"
            )
        end += entry.size
    if end != size:
        raise bad(f"its tensors end at byte {end - start} of the data, which has {data_size} bytes")
    return entries


def _read_entry(name: str, value: Any, start: int, data_size: int, bad: Any) -> _Entry:
    def is_sizes(numbers: Any) -> bool:
        return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)

    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise bad(f"tensor {name!r} lacks a dtype, shape or data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise bad(f"tensor {name!r} has dtype {dtype!r}; allowed: {', '.join(_ITEM_BYTES)}")
    if not is_sizes(shape) or len(shape) > 16:
        raise bad(f"tensor {name!r} has the shape {shape!r}")
    if not is_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_size:
        raise bad(f"tensor {name!r} has data_offsets {offsets!r}, but the data has {data_size} bytes")
    size = offsets[1] - offsets[0]
    if math.prod(shape) * _ITEM_BYTES[dtype] != size:
        raise bad(
            f"tensor {name!r} of dtype {dtype} and shape {shape} spans {size} bytes, "
            f"not {math.prod(shape) * _ITEM_BYTES[dtype]}"
        )
    return _Entry(dtype, tuple(shape), start + offsets[0], size)


def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` as one safetensors file, whole or not at all, without a second copy in memory.

    Raises WeightError for a dtype that the format lacks, TypeError for metadata that is not text.
    """
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.dtype not in _WRITABLE:
            raise WeightError(
                f"tensor {name!r} has dtype {array.dtype}; "
                f"allowed: {', '.join(str(dtype) for dtype in _WRITABLE)}"
            )
    header: dict[str, Any] = {}
    if metadata:
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise TypeError("safetensors metadata must map text to text")
        header["__metadata__"] = dict(metadata)
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # widest first keeps every tensor aligned
    end = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _WRITABLE[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with atomic_open(path) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        with bar(None, f"write {Path(path).name}", total=end, unit="B", unit_scale=True) as moving:
            for name in order:
                file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
                moving.update(arrays[name].nbytes)
