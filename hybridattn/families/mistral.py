"""Mistral decoders: Llama whose layers see a sliding window."""

from __future__ import annotations

from typing import Any

from ..checks import check_int
from .config import ModelConfig
from .rotary import LAYOUT, read_config

__all__ = ["LAYOUT", "config_from_hf"]


def config_from_hf(hf: dict[str, Any]) -> ModelConfig:
    """ModelConfig of a `MistralForCausalLM` config, with that class's defaults. ConfigError on bad values."""
    window = hf.get("sliding_window", 4096)  # the class's default; null means none
    return read_config(
        hf,
        "mistral",
        defaults={"num_key_value_heads": 8, "max_position_embeddings": 131072},
        attention_bias=False,
        output_bias=False,
        sliding_window=0 if window is None else check_int("sliding_window", window),
    )
