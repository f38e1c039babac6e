"""Which checkpoints are hybrids that `hybridattn export` wrote, by what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import bamba, qwen3_5
from .made import MadeSource
from .source import WeightSource

MODEL_TYPES = (qwen3_5.MODEL_TYPE, bamba.MODEL_TYPE)


def as_exported(source: WeightSource, config: Mapping[str, Any]) -> MadeSource | None:
    """The tensors of the hybrid that a checkpoint with that config.json was written from; None for one that
    is a model of a family. Raises ConfigError for a Bamba model of another make, of which there is no family.
    """
    if config.get("model_type") == bamba.MODEL_TYPE:
        return bamba.BambaSource(source, config)
    if config.get("model_type") == qwen3_5.MODEL_TYPE and qwen3_5.was_exported(source, config):
        return qwen3_5.Qwen35Source(source, config)
    return None
