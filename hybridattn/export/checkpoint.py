"""A folder of the Hugging Face kind: config.json, model.safetensors, tokenizer, and what goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ..errors import ExportError
from ..files import atomic_write
from ..formats.safetensors import save_safetensors
from .weights import Array

if TYPE_CHECKING:
    from ..model.model import Model

_NUMPY: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
DTYPES = tuple(_NUMPY)


def write_checkpoint(
    model: Model, folder: Path, config: Mapping[str, Any], tensors: Iterable[tuple[str, Array]], dtype: str
) -> None:
    """Write the files. Raises ExportError for a weight that is not finite in the type."""
    arrays = {name: _cast(name, array, dtype) for name, array in tensors}
    save_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})
    if model.tokenizer is not None:
        model.tokenizer.save(folder)
    atomic_write(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _cast(name: str, array: Array, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = array.astype(_NUMPY[dtype], copy=False)
    if dtype != "float32" and not np.isfinite(cast).all():
        raise ExportError(
            f"weight {name!r} has numbers of up to {float(np.abs(array).max()):.4g}, too large for {dtype}; "
            "allowed: bfloat16 or float32"
        )
    return cast
