"""A folder of the Hugging Face kind: config.json, model.safetensors, tokenizer, and what goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ..errors import ExportError
from ..families.config import ModelConfig
from ..files import atomic_write
from ..formats.safetensors import save_safetensors
from .weights import Array

if TYPE_CHECKING:
    from ..model.model import Model

_NUMPY: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
DTYPES = tuple(_NUMPY)
GENERATION = "generation_config.json"


def write_checkpoint(
    model: Model, folder: Path, config: Mapping[str, Any], tensors: Iterable[tuple[str, Array]], dtype: str
) -> None:
    """Write the files. Raises ExportError for a weight that is not finite in the type."""
    arrays = {name: _cast(name, array, dtype) for name, array in tensors}
    save_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})
    if model.tokenizer is not None:
        model.tokenizer.save(folder, plain=True)
    generation = generation_config(model.model_config)
    if generation:
        atomic_write(folder / GENERATION, json.dumps(generation, indent=2, ensure_ascii=False) + "\n")
    atomic_write(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def generation_config(config: ModelConfig) -> dict[str, Any]:
    """How the teacher's folder says text is generated, or else where it ends, which transformers looks up
    there.
    """
    given = config.generation
    ends = list(config.eos_token_ids)
    made = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": config.hf.get("pad_token_id"),
    }
    return dict(given) or {key: value for key, value in made.items() if value is not None}


def _cast(name: str, array: Array, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = array.astype(_NUMPY[dtype], copy=False)
    if dtype != "float32" and not np.isfinite(cast).all():
        raise ExportError(
            f"weight {name!r} has numbers of up to {float(np.abs(array).max()):.4g}, too large for {dtype}; "
            "allowed: bfloat16 or float32"
        )
    return cast
