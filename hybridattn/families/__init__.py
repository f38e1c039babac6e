"""Families of teachers: how a Hugging Face config and its weight names map to this package's own.

A family is one module here with `config_from_hf(dict) -> ModelConfig` and `hf_name(internal name) -> str`,
and one line in `_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig, refuse
from ..errors import ConfigError
from . import heads, llama, mistral, qwen2

_FAMILIES = {"llama": llama, "mistral": mistral, "qwen2": qwen2}
_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
}


def config_from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig of a parsed `config.json`.

    Raises ConfigError for an unknown model_type, a value out of range, or a setting that would change the
    arithmetic and is not supported.
    """
    if not isinstance(hf, Mapping):
        raise ConfigError(f"a model config is a {type(hf).__name__}; allowed: an object with a model_type")
    kind = hf.get("model_type")
    if kind is None and isinstance(hf.get("architectures"), list) and hf["architectures"]:
        kind = _ARCHITECTURES.get(hf["architectures"][0])
    if kind not in _FAMILIES:
        raise refuse("model_type", hf.get("model_type"), ", ".join(_FAMILIES))
    return _FAMILIES[kind].config_from_hf(dict(hf))


def hf_name(config: ModelConfig, internal_name: str) -> str:
    """The name under which `internal_name` is stored in a Hugging Face weight file of this family."""
    head = heads.head_name(config, internal_name)
    return head or heads.decoder_name(config, _FAMILIES[config.family].hf_name(internal_name))
