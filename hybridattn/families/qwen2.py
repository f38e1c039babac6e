"""Qwen2 and Qwen2.5 decoders: Llama with biases on q, k and v."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .config import ModelConfig
from .rotary import LAYOUT, one_window, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Qwen2ForCausalLM` config, with that class's defaults. ConfigError on bad values, and
    for a window that some layers have and others not.
    """
    rest, window = one_window(hf, "qwen2")
    config = read_config(
        rest,
        "qwen2",
        defaults={"max_position_embeddings": 32768},
        attention_bias=True,
        output_bias=False,
        sliding_window=window,
    )
    return replace(config, hf=hf)
