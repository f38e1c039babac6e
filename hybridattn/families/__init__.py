"""Families of teachers: how a Hugging Face config and its weight names map to this package's own.

A family is one module here with `config_from_hf(dict) -> ModelConfig` and a `Layout`, and one line in
`_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from ..checks import refuse
from ..errors import ConfigError
from . import bert, distilbert, gemma3, gpt2, gpt_neox, llama, mistral, qwen2, qwen3, qwen3_5, roberta
from .config import ModelConfig
from .layout import Cut, Layout
from .reading import CLASSES, class_name, stem

_FAMILIES: dict[str, ModuleType] = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_5_text": qwen3_5,
    "qwen3_5": qwen3_5,
    "gemma3_text": gemma3,
    "gemma3": gemma3,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "bert": bert,
    "roberta": roberta,
    "distilbert": distilbert,
}


def config_from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig of a parsed `config.json`.

    Raises ConfigError for an unknown model_type, a value out of range, or a setting that would change the
    arithmetic and is not supported.
    """
    if not isinstance(hf, Mapping):
        raise ConfigError(f"a model config is a {type(hf).__name__}; allowed: an object with a model_type")
    kind = hf.get("model_type")
    if kind is None:
        kind = CLASSES.get(stem(hf))
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise refuse("model_type", hf.get("model_type"), ", ".join(_FAMILIES))
    config: ModelConfig = _FAMILIES[kind].config_from_hf(dict(hf))
    return config


def as_in_file(config: ModelConfig, names: Iterable[str]) -> ModelConfig:
    """The config, without an LM head where config.json names no class and the file's tensors, `names`, are
    those of a base model.
    """
    if class_name(config.hf) or not config.lm_head or not layout_of(config).headless(names):
        return config
    return replace(config, lm_head=False, head_bias=False, head_transform=False)


def layout_of(config: ModelConfig) -> Layout:
    """How weight files of the model's family are laid out."""
    layout: Layout = _FAMILIES[config.family].LAYOUT
    return layout


def cut_of(config: ModelConfig, internal_name: str) -> Cut:
    """Where the parameter is in a Hugging Face weight file of this family."""
    return layout_of(config).cut(config, internal_name)


def hf_name(config: ModelConfig, internal_name: str) -> str:
    """The name of the tensor that holds it."""
    return cut_of(config, internal_name).name
