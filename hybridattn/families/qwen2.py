"""Qwen2 and Qwen2.5 decoders: Llama with biases on q, k and v."""

from __future__ import annotations

from typing import Any

from .config import ModelConfig
from .rotary import LAYOUT, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `Qwen2ForCausalLM` config, with that class's defaults. ConfigError on bad values.

    `sliding_window` counts only with use_sliding_window, which gives some layers a window and others none:
    refused.
    """
    return read_config(
        hf,
        "qwen2",
        neutral={"use_sliding_window": (None, False)},
        defaults={"max_position_embeddings": 32768},
        attention_bias=True,
        output_bias=False,
    )
