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
from .calibration import Factors, Matrix
from .config import refuse
from .errors import ConfigError

if TYPE_CHECKING:
    from .data import TokenData
    from .model import Model

Bytes = npt.NDArray[np.uint8]

# bytes of a block and of the float16 scales it begins with; numbers of 16 bits are blocks that are all scale
_BLOCK = {"bfloat16": (2, 2), "float16": (2, 2), "q8_0": (34, 2), "q4_0": (18, 2), "q4_1": (20, 4)}
_SHORT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
NAMES = ("float32", *_BLOCK)
_CHUNK = 1 << 20
_BLOCK_TYPES = ("q8_0", "q4_0", "q4_1")
# Matrices that a type rounds too coarsely, by the end of their names, and what they are kept in: values and
# outputs carry most of the perplexity that 8 bits cost (docs/results.md), and are an eighth of the weights.
_FINER = {
    "q8_0": {"v_proj.weight": "float16", "o_proj.weight": "float16"},
    "q4_0": {"embed.weight": "q8_0", "lm_head.weight": "q8_0"},
    "q4_1": {"embed.weight": "q8_0", "lm_head.weight": "q8_0"},
}
# Further ones of a calibrated model of 4 bits: what GPTQ leaves of the error is for the most part theirs.
_FINER_CALIBRATED = dict.fromkeys(("v_proj.weight", "o_proj.weight", "down_proj.weight"), "q8_0")


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


def astype(model: Model, dtype: str, calibration: TokenData | None = None) -> Model:
    """What `Model.astype` gives."""
    dtype = dtype_name(dtype)
    finer = _FINER.get(dtype, {})
    if calibration is not None:
        if dtype not in _BLOCK_TYPES:
            raise refuse("dtype with calibration", dtype, ", ".join(_BLOCK_TYPES))
        finer = finer | (_FINER_CALIBRATED if dtype != "q8_0" else {})
    new, plain = model.like(), model.arrays(stored=False)
    stored, targets = model.stored(), new.arrays()
    matrices = {
        name: next((kept for end, kept in finer.items() if name.endswith(end)), dtype)
        for name in model.matrices()
    }
    rounded = [
        name
        for name, wanted in matrices.items()
        if wanted in _BLOCK_TYPES and name.startswith("layers.") and stored.get(name, ("",))[0] != wanted
    ]
    factors = Factors(model, calibration, rounded) if calibration is not None else None
    for name, wanted in matrices.items():
        kept = stored.get(name)
        if kept and kept[0] == wanted:
            new.store(name, *kept)
            continue
        values = _core.unpack(kept[1], kept[0]) if kept else plain[name]
        if wanted == "float32":
            targets[name][...] = values
        else:
            new.store(name, wanted, _packed(name, values, wanted, factors if name in rounded else None))
    for name in plain.keys() - set(matrices):
        targets[name][...] = plain[name]
    return new


def _packed(name: str, values: Matrix, dtype: str, factors: Factors | None) -> Bytes:
    """A matrix as that type, or ConfigError where it does not fit."""
    if dtype in _BLOCK_TYPES and values.shape[1] % 32:
        raise ConfigError(
            f"{name} is {list(values.shape)}, and rows of {values.shape[1]} are no multiple of a "
            f"{dtype} block, 32; allowed: float32, bfloat16 or float16"
        )
    packed = _core.pack(values, dtype, factors.of(name) if factors else None)
    row = bad_row(packed, dtype)
    if row is not None:
        raise ConfigError(
            f"{name} has numbers in row {row} that are too large for the float16 of {dtype}; "
            "allowed: bfloat16 or float32"
        )
    return packed
