"""Models of the family qwen3_5 in its own layout: what became linear is like its other linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..families.config import ModelConfig
from ..formats.loading import tensors_of
from . import decoder
from .registry import Misfit
from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

FAMILY = "qwen3_5"


def is_native(model: Model) -> bool:
    """Whether the model is of that family."""
    return model.model_config.family == FAMILY


def linear_spec(model: Model) -> dict[str, Any]:
    """The mixer of its linear layers, {} where it has none."""
    layers = model.model_config.native_layers
    return next((dict(spec) for spec in layers if spec["kind"] != "softmax"), {})


def misfits(model: Model) -> list[Misfit]:
    """What of the model is not as in its family: heads of the model, and layers."""
    config = model.model_config
    if config.task is not None or not config.lm_head:
        return [Misfit("it has the head of a task or none; allowed: an LM head")]
    return decoder.layer_misfits(model, "gated_delta", "Qwen3.5", _linear)


def _linear(model: Model, spec: Mapping[str, Any]) -> Iterator[str]:
    for key, value in {"output_gate": "full", **linear_spec(model)}.items():
        if spec.get(key) != value:
            yield f"gated_delta's {key} is {spec.get(key)}; allowed: {value}, as in its other layers"


def native_config(model: Model) -> ModelConfig:
    """The config with every linear layer among those that the family has itself."""
    own = linear_spec(model)
    native = tuple({"kind": "softmax"} if s[0]["kind"] == "softmax" else own for s in model.layers)
    kinds = ["full_attention" if spec["kind"] == "softmax" else "linear_attention" for spec in native]
    config = model.model_config
    return replace(config, native_layers=native, hf={**config.hf, "layer_types": kinds})


def tensors(model: Model) -> dict[str, Array]:
    """float32 by Hugging Face name, as they lie in such a checkpoint."""
    weights = Weights(model)
    names = [name for name, _, _ in model.parameter_info()]
    return tensors_of(native_config(model), {name: weights[name] for name in names})
