"""Lean mixers as other programs have them: a key and value head for every head, and a full output gate.

A state that several heads read is written once for each of them: its rows of k and v, their convolutions, and
what its gates are made of are repeated. A gate of low rank is multiplied out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

# what there is for each head of the state, all its channels or one number
_PARTS = (
    *(f"{part}_{name}" for part in "kv" for name in ("proj.weight", "proj.bias", "conv.weight")),
    *("b_proj.weight", "a_proj.weight", "A_log", "dt_bias"),
)


def notes(model: Model) -> dict[str, Any]:
    """What is written larger than it is here, {} for nothing."""
    specs = [spec for specs in model.layers for spec in specs]
    c, found = model.model_config, {}
    if any(spec.get("grouped") for spec in specs) and c.num_heads > c.num_kv_heads:
        found["repeated_states"] = f"{c.num_heads} of {c.num_kv_heads} in linear layers"
    if any(spec.get("output_gate") == "low_rank" for spec in specs):
        found["output_gates"] = "of low rank, multiplied out"
    return found


class Expanded(Weights):
    """Parameters by internal name, those of gated_delta and mamba2 as if `grouped` were 0 and `output_gate`
    "full".
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        c = model.model_config
        self._group, self._heads = c.num_heads // c.num_kv_heads, c.num_kv_heads
        self._specs: dict[str, Mapping[str, Any]] = {
            f"layers.{i}.{spec['kind']}.": spec for i, specs in enumerate(model.layers) for spec in specs
        }

    def __contains__(self, name: str) -> bool:
        return super().__contains__(name) or super().__contains__(_low_rank(name, "up"))

    def __getitem__(self, name: str) -> Array:
        if not super().__contains__(name) and name in self:
            return super().__getitem__(_low_rank(name, "up")) @ super().__getitem__(_low_rank(name, "down"))
        array, (prefix, part) = super().__getitem__(name), _split(name)
        if not self._specs.get(prefix, {}).get("grouped") or part not in _PARTS:
            return array
        heads = array.reshape(self._heads, -1, *array.shape[1:])
        return np.repeat(heads, self._group, axis=0).reshape(-1, *array.shape[1:])


def _low_rank(name: str, half: str) -> str:
    """The name of one half of an output gate of low rank."""
    return name.replace(".g_proj.", f".g_{half}.")


def _split(name: str) -> tuple[str, str]:
    """("layers.3.gated_delta.", "k_proj.weight")"""
    at = len(".".join(name.split(".")[:3])) + 1
    return name[:at], name[at:]
