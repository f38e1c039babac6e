"""GGUF files of architecture `granitehybrid` that hold Bamba models, as Bamba checkpoints.

`ssm_a` is -exp(A_log) with an axis of 1, as has D; the norm has an axis for groups; a convolution has two
dimensions, and a bias, which is 0 in what `export` wrote. Layers without key heads are the recurrent ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..checks import refuse
from ..errors import ConfigError, WeightError
from .dtypes import Bytes
from .gguf_header import GGUFHeader
from .source import WeightSource

ARCHITECTURE = "granitehybrid"
KEYS = frozenset(
    f"ssm.{key}" for key in ("conv_kernel", "group_count", "inner_size", "state_size", "time_step_rank")
)
_BIAS = ".mamba.conv1d.bias"


def hf_keys(header: GGUFHeader) -> dict[str, Any]:
    """Those of a Bamba config beside the common ones. Raises ConfigError naming the key."""
    meta = header.metadata

    def number(key: str) -> int:
        return header.count(f"{ARCHITECTURE}.{key}")

    heads, inner, layers = number("ssm.time_step_rank"), number("ssm.inner_size"), number("block_count")
    if inner % heads:
        raise refuse(f"{ARCHITECTURE}.ssm.inner_size", inner, f"a multiple of ssm.time_step_rank ({heads})")
    kv_heads = meta.get(f"{ARCHITECTURE}.attention.head_count_kv")
    if not isinstance(kv_heads, list) or len(kv_heads) != layers:
        raise refuse(f"{ARCHITECTURE}.attention.head_count_kv", kv_heads, f"numbers of {layers} layers")
    return {
        "attn_layer_indices": [i for i, count in enumerate(kv_heads) if count],
        "mamba_n_heads": heads,
        "mamba_d_head": inner // heads,
        "mamba_n_groups": number("ssm.group_count"),
        "mamba_d_state": number("ssm.state_size"),
        "mamba_d_conv": number("ssm.conv_kernel"),
        "mamba_conv_bias": False,
        "mamba_proj_bias": False,
    }


class BambaTensors(WeightSource):
    """The tensors of such a file as those of a Bamba checkpoint. ConfigError for biases of convolutions."""

    def __init__(self, inner: WeightSource) -> None:
        self.path, self._inner = inner.path, inner
        for name in inner.names():
            if name.endswith(_BIAS):
                bias = np.empty(inner.shape(name), np.float32)
                inner.read_into(name, bias)
                if bias.any():
                    raise ConfigError(f"{name} is not 0; allowed: a hybrid that hybridattn export wrote")

    def names(self) -> list[str]:
        return [name for name in self._inner.names() if not name.endswith(_BIAS)]

    def file(self, name: str) -> Path:
        return self._inner.file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self._inner.shape(name)
        if name.endswith(".mamba.conv1d.weight"):
            return (shape[0], 1, *shape[1:])
        if name.endswith((".mamba.A_log", ".mamba.D", ".mamba.norm.weight")):
            return (int(np.prod(shape)),)
        return shape

    def read_into(self, name: str, out: np.ndarray) -> None:
        self.check_out(name, out)
        array = np.empty(self._inner.shape(name), np.float32)
        self._inner.read_into(name, array)
        if name.endswith(".A_log"):
            if not (array < 0).all():
                raise WeightError(f"{self.path}: {name} is made of ssm_a, which has numbers not below 0")
            array = np.log(-array)
        out[...] = array.reshape(out.shape)

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        return None  # what is read back from such a file is made of its tensors

    def drop(self, name: str) -> None:
        self._inner.drop(name)

    def close(self) -> None:
        self._inner.close()
