"""Names of storage types, and what a row of each takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..checks import refuse

Bytes = npt.NDArray[np.uint8]


# bytes of a block and of the float16 scales it begins with; numbers of 16 bits are blocks that are all scale
_BLOCK = {"bfloat16": (2, 2), "float16": (2, 2), "q8_0": (34, 2), "q4_0": (18, 2), "q4_1": (20, 4)}


_SHORT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


NAMES = ("float32", *_BLOCK)


_CHUNK = 1 << 20


def dtype_name(name: str, more: tuple[str, ...] = ()) -> str:
    """The full name of a storage type, which f32, bf16 and f16 abbreviate. ConfigError for any other."""
    full = _SHORT.get(name, name)
    if full not in (*NAMES, *more):
        raise refuse("dtype", name, ", ".join((*NAMES, *more)))
    return full


def bad_row(data: Bytes, dtype: str) -> int | None:
    """The first row of uint8 [rows, bytes] in which a number or a scale is NaN or infinite."""
    block, scales = _BLOCK[dtype]
    exponent = np.uint16(0x7F80 if dtype == "bfloat16" else 0x7C00)
    step = max(1, _CHUNK // max(data.shape[1], 1))
    for start in range(0, len(data), step):
        rows = data[start : start + step]
        halves = np.ascontiguousarray(rows.reshape(len(rows), -1, block)[:, :, :scales]).view(np.uint16)
        wrong = ((halves & exponent) == exponent).any(axis=(1, 2))
        if wrong.any():
            return start + int(wrong.argmax())
    return None
