"""Weights of 16, 8 and 4 bits: their names, checks, and a model's matrices from one type to another.

A model's embedding, projections and LM head may be kept in any of these types, also mapped from a file;
norms, biases and the parameters of linear mixers that are no projections stay float32. Products decode them
against float32 activations, which are never rounded.
"""

from __future__ import annotations

from typing import TypeVar

from .. import _core
from ..checks import refuse
from ..data.tokens import TokenData
from ..errors import ConfigError
from ..formats.dtypes import Bytes, bad_row, dtype_name
from ..results.progress import bar
from .base import BaseModel
from .calibration import Factors, Matrix

AnyModel = TypeVar("AnyModel", bound=BaseModel)

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


def astype(model: AnyModel, dtype: str, calibration: TokenData | None = None) -> AnyModel:
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
    for name, wanted in bar(matrices.items(), f"to {dtype}", total=len(matrices)):
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
