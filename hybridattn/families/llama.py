"""Llama decoders: Llama 2 and 3, SmolLM and SmolLM2, TinyLlama."""

from __future__ import annotations

from typing import Any

from ..checks import check_bool
from .config import ModelConfig
from .rotary import LAYOUT, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `LlamaForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    bias = check_bool("attention_bias", hf.get("attention_bias", False))
    return read_config(
        hf,
        "llama",
        neutral={"sliding_window": (None,)},
        attention_bias=bias,
        output_bias=bias,  # this family has both or neither
        mlp_bias=check_bool("mlp_bias", False if hf.get("mlp_bias") is None else hf["mlp_bias"]),
    )
