"""GGUF files of architecture `gemma3`: how they differ from Gemma 3 text checkpoints.

Norms hold the weight itself, not less 1. The rope base of layers with a window, and which layers have one,
are not in most files: llama.cpp knows them, whose converter and graph are the source.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..checks import refuse
from .dtypes import Bytes
from .gguf_header import GGUFHeader
from .source import WeightSource

ARCHITECTURE = "gemma3"
KEYS = frozenset(["attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"])
_PATTERN, _LOCAL_BASE = 6, 10000.0  # what llama.cpp takes where a file does not say
_LARGEST = 62  # layers of the one size whose scores are divided by another root than that of the head
_NORM = re.compile(r"model\.(norm|layers\.\d+\.(\w+_layernorm|self_attn\.[qk]_norm))\.weight")


def hf_keys(header: GGUFHeader, head_dim: Any) -> dict[str, Any]:
    """Those of a Gemma 3 config beside the common ones. Raises ConfigError naming the key."""

    def get(key: str, default: Any) -> Any:
        return header.metadata.get(f"{ARCHITECTURE}.{key}", default)

    window, pattern = get("attention.sliding_window", 0), get("attention.sliding_window_pattern", _PATTERN)
    layers, heads, hidden = (
        header.count(f"{ARCHITECTURE}.{key}")
        for key in ("block_count", "attention.head_count", "embedding_length")
    )
    if isinstance(pattern, list):  # whether each layer has a window
        if len(pattern) != layers:
            raise refuse(
                f"{ARCHITECTURE}.attention.sliding_window_pattern",
                pattern,
                f"a truth value for {layers} layers",
            )
        has = [bool(each) for each in pattern]
    elif type(pattern) is int and pattern > 0:
        has = [(i + 1) % pattern != 0 for i in range(layers)]
    else:
        raise refuse(
            f"{ARCHITECTURE}.attention.sliding_window_pattern", pattern, "a number above 0, or a list"
        )
    if not window:
        has = [False] * layers
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": ["sliding_attention" if each else "full_attention" for each in has],
        "sliding_window": window or None,
        "rope_local_base_freq": get("rope.freq_base_swa", _LOCAL_BASE),
        "query_pre_attn_scalar": hidden // heads if layers == _LARGEST else head_dim,
    }


class Gemma3Tensors(WeightSource):
    """The tensors of such a file as those of a Gemma 3 text checkpoint."""

    def __init__(self, inner: WeightSource) -> None:
        self.path, self._inner = inner.path, inner

    def names(self) -> list[str]:
        return self._inner.names()

    def file(self, name: str) -> Any:
        return self._inner.file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._inner.shape(name)

    def read_into(self, name: str, out: np.ndarray) -> None:
        self._inner.read_into(name, out)
        if _NORM.fullmatch(name):
            out -= np.float32(1)

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        return self._inner.stored(name)

    def drop(self, name: str) -> None:
        self._inner.drop(name)

    def close(self) -> None:
        self._inner.close()
