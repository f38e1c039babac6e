"""Pickle and deepcopy of models: what a model is made of, and every parameter as it is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_KEPT = ("compute", "plan", "train_result", "softmax_order")


def reduced(model: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """For `BaseModel.__reduce__`: a function and its arguments that make the model anew."""
    stored = {name: (dtype, np.array(data)) for name, (dtype, data) in model.stored().items()}
    floats = {name: np.array(array) for name, array in model.arrays(stored=False).items()}
    parts = (type(model), model.model_config, model.layers, model.tokenizer)
    kept = {name: getattr(model, name) for name in _KEPT}
    return _made, (parts, np.array(model.gates), floats, stored, kept)


def _made(
    parts: tuple[Any, ...],
    gates: np.ndarray,
    floats: dict[str, np.ndarray],
    stored: dict[str, tuple[str, np.ndarray]],
    kept: dict[str, Any],
) -> Any:
    kind, config, layers, tokenizer = parts
    model = kind(config, layers, tokenizer)
    for name, (dtype, data) in stored.items():
        model.store(name, dtype, data)
    arrays = model.arrays(stored=False)
    for name, array in floats.items():
        arrays[name][...] = array
    model.gates[:] = gates
    for name, value in kept.items():
        setattr(model, name, value)
    return model
