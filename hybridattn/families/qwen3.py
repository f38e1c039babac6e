"""Qwen3 decoders: Llama with a head_dim of their own and a norm on every head of q and k."""

from __future__ import annotations

from typing import Any

from ..checks import check_bool
from .config import ModelConfig
from .rotary import LAYOUT, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Qwen3ForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    bias = check_bool("attention_bias", hf.get("attention_bias", False))
    return read_config(
        hf,
        "qwen3",
        neutral={"use_sliding_window": (None, False)},
        defaults={"head_dim": 128, "max_position_embeddings": 32768},
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
    )
