"""Weights of 16, 8 and 4 bits: their names, checks, and a model's matrices from one type to another.

A model's embedding, projections and LM head may be kept in any of these types, also mapped from a file;
norms, biases and the parameters of linear mixers that are no projections stay float32. Products decode them
against float32 activations, which are never rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import _core
from .config import refuse
from .errors import ConfigError

if TYPE_CHECKING:
    from .model import Model

Bytes = npt.NDArray[np.uint8]

# bytes of a block and of the float16 scales it begins with; numbers of 16 bits are blocks that are all scale
_BLOCK = {"bfloat16": (2, 2), "float16": (2, 2), "q8_0": (34, 2), "q4_0": (18, 2), "q4_1": (20, 4)}
_SHORT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
NAMES = ("float32", *_BLOCK)
_CHUNK = 1 << 20
# Matrices that a type rounds too coarsely, by the end of their names, and what they are kept in: values and
# outputs carry most of the perplexity that 8 bits cost (docs/results.md), and are an eighth of the weights.
_FINER = {
    "q8_0": {"v_proj.weight": "float16", "o_proj.weight": "float16"},
    "q4_0": {"embed.weight": "q8_0", "lm_head.weight": "q8_0"},
    "q4_1": {"embed.weight": "q8_0", "lm_head.weight": "q8_0"},
}


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


def astype(model: Model, dtype: str) -> Model:
    """What `Model.astype` gives."""
    dtype = dtype_name(dtype)
    new = model.like()
    stored, plain = model.stored(), model.arrays(stored=False)
    targets = new.arrays()
    for name in model.matrices():
        finer = _FINER.get(dtype, {})
        wanted = next((kept for end, kept in finer.items() if name.endswith(end)), dtype)
        kept = stored.get(name)
        if kept and kept[0] == wanted:
            new.store(name, *kept)
            continue
        values = _core.unpack(kept[1], kept[0]) if kept else plain[name]
        if wanted == "float32":
            targets[name][...] = values
            continue
        try:
            packed = _core.pack(values, wanted)
        except ValueError:
            raise ConfigError(
                f"{name} is {list(values.shape)}, and rows of {values.shape[1]} are no multiple of a "
                f"{wanted} block, 32; allowed: float32, bfloat16 or float16"
            ) from None
        row = bad_row(packed, wanted)
        if row is not None:
            raise ConfigError(
                f"{name} has numbers in row {row} that are too large for the float16 of {wanted}; "
                "allowed: bfloat16 or float32"
            )
        new.store(name, wanted, packed)
    for name in plain.keys() - set(model.matrices()):
        targets[name][...] = plain[name]
    return new
