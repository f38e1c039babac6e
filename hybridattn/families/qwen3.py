"""Qwen3 decoders: Llama with a head_dim of their own and a norm on every head of q and k."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..checks import check_bool
from .config import ModelConfig
from .rotary import LAYOUT, one_window, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Qwen3ForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    bias = check_bool("attention_bias", hf.get("attention_bias", False))
    rest, window = one_window(hf, "qwen3")
    config = read_config(
        rest,
        "qwen3",
        defaults={"head_dim": 128, "max_position_embeddings": 32768},
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
        sliding_window=window,
    )
    return replace(config, hf=hf)
