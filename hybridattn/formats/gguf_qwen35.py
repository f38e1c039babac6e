"""GGUF files of architecture `qwen35`: how they differ from Qwen3.5 text checkpoints, both ways.

Blocks that guess tokens ahead, behind the others, are left aside. `ssm_a` is -exp(A_log), norms hold the
weight itself, a convolution has two dimensions. Where heads share key heads, what belongs to the heads of a
linear layer is in another order: the first head of every key head, then the second of every one, as
llama.cpp's converter puts it, whose code and graph are the source.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import refuse
from ..errors import WeightError
from .dtypes import Bytes
from .gguf_header import GGUFHeader
from .source import WeightSource

Array = npt.NDArray[np.float32]
ARCHITECTURE = "qwen35"
KEYS = frozenset([
    "ssm.conv_kernel", "ssm.group_count", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank",
    "attention.recurrent_layers", "full_attention_interval", "rope.dimension_sections",
    "nextn_predict_layers",
])  # fmt: skip
_BLOCK = re.compile(r"(?:model\.layers|blk)\.(\d+)\.")
_ZERO_CENTRED = re.compile(r"model\.(norm|layers\.\d+\.(\w+_layernorm|self_attn\.[qk]_norm))\.weight")


def zero_centred(name: str) -> bool:
    """Whether a checkpoint holds that weight less 1."""
    return _ZERO_CENTRED.fullmatch(name) is not None


def reordered(array: np.ndarray, heads: int, key_heads: int, axis: int = 0, back: bool = False) -> np.ndarray:
    """What belongs to heads, along an axis, in the order of the file; back: from that order."""
    first, second = (heads // key_heads, key_heads) if back else (key_heads, heads // key_heads)
    shape = array.shape
    parts = array.reshape(*shape[:axis], first, second, -1, *shape[axis + 1 :])
    return np.ascontiguousarray(parts.swapaxes(axis, axis + 1)).reshape(shape)


def linear_order(name: str, array: np.ndarray, shape: tuple[int, int, int], back: bool = False) -> np.ndarray:
    """A tensor of a linear layer in the order of the file, or back from it. shape: heads, key heads, channels
    of a head.
    """
    heads, keys, dim = shape
    part = name.partition(".linear_attn.")[2]
    if heads == keys or not part or part == "norm.weight":
        return array
    if part in ("in_proj_qkv.weight", "conv1d.weight"):
        values = reordered(array[2 * keys * dim :], heads, keys, back=back)
        return np.concatenate([array[: 2 * keys * dim], values])
    axis = 1 if part == "out_proj.weight" else 0
    return reordered(array, heads, keys, axis, back)


def hf_keys(header: GGUFHeader, head_dim: Any, turns: Any) -> dict[str, Any]:
    """Those of a Qwen3.5 config beside the common ones. head_dim: of a softmax layer; turns: channels of it
    that RoPE turns. Raises ConfigError naming the key.
    """
    meta = header.metadata

    def number(key: str) -> int:
        return header.count(f"{ARCHITECTURE}.{key}")

    state, heads = number("ssm.state_size"), number("ssm.time_step_rank")
    blocks, ahead = number("block_count"), meta.get(f"{ARCHITECTURE}.nextn_predict_layers", 0)
    if type(ahead) is not int or not 0 <= ahead < blocks:
        raise refuse(f"{ARCHITECTURE}.nextn_predict_layers", ahead, f"0 to {blocks - 1}, of {blocks} blocks")
    layers = blocks - ahead
    kinds = meta.get(f"{ARCHITECTURE}.attention.recurrent_layers")
    if kinds is None:
        every = number("full_attention_interval") if f"{ARCHITECTURE}.full_attention_interval" in meta else 4
        kinds = [(i + 1) % every != 0 for i in range(blocks)]
    if not isinstance(kinds, list) or len(kinds) != blocks:
        raise refuse(
            f"{ARCHITECTURE}.attention.recurrent_layers", kinds, f"a truth value for {blocks} blocks"
        )
    if number("ssm.inner_size") != heads * state:
        raise refuse(
            f"{ARCHITECTURE}.ssm.inner_size",
            number("ssm.inner_size"),
            f"time_step_rank * state_size, {heads * state}",
        )
    sections = meta.get(f"{ARCHITECTURE}.rope.dimension_sections")
    return {
        "num_hidden_layers": layers,
        "layer_types": ["linear_attention" if kind else "full_attention" for kind in kinds[:layers]],
        "linear_conv_kernel_dim": number("ssm.conv_kernel"),
        "linear_key_head_dim": state,
        "linear_value_head_dim": state,
        "linear_num_key_heads": number("ssm.group_count"),
        "linear_num_value_heads": heads,
        "partial_rotary_factor": _share(turns, head_dim),
        **({"mrope_section": sections[:3]} if isinstance(sections, list) and len(sections) > 2 else {}),
    }


def _share(turns: Any, head_dim: Any) -> float:
    """The part of a head that turns, so that int(head_dim * part) is that number of channels."""
    if not (type(turns) is int and type(head_dim) is int and 0 < turns <= head_dim):
        raise refuse(f"{ARCHITECTURE}.rope.dimension_count", turns, f"1 to the length of a key ({head_dim})")
    part = turns / head_dim
    return part if int(head_dim * part) == turns else float(np.nextafter(part, 2.0))


class Qwen35Tensors(WeightSource):
    """The tensors of such a file as those of a Qwen3.5 text checkpoint, config `hf`."""

    def __init__(self, inner: WeightSource, hf: dict[str, Any]) -> None:
        self.path, self._inner = inner.path, inner
        keys = ("num_value_heads", "num_key_heads", "value_head_dim")
        heads, key_heads, dim = (int(hf[f"linear_{key}"]) for key in keys)
        self._linear = heads, key_heads, dim
        self._layers = int(hf["num_hidden_layers"])

    def names(self) -> list[str]:
        """All but those of the last blocks, which guess tokens ahead and are not read."""
        found = ((name, _BLOCK.match(name)) for name in self._inner.names())
        return [name for name, block in found if block is None or int(block[1]) < self._layers]

    def file(self, name: str) -> Any:
        return self._inner.file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self._inner.shape(name)
        return (shape[0], 1, *shape[1:]) if name.endswith(".conv1d.weight") else shape

    def read_into(self, name: str, out: np.ndarray) -> None:
        self.check_out(name, out)
        array = np.empty(self._inner.shape(name), np.float32)
        self._inner.read_into(name, array)
        if zero_centred(name):
            array -= np.float32(1)
        if name.endswith(".A_log"):
            if not (array < 0).all():
                raise WeightError(
                    f"{self.path}: {name} is made of ssm_a, which holds numbers that are not below 0"
                )
            array = np.log(-array)
        out[...] = self._ordered(name, array).reshape(out.shape)

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        """As they lie in the file, rows in the order of a checkpoint; columns are not put in order here."""
        if name.endswith(".conv1d.weight") or name.endswith(".out_proj.weight"):
            heads, key_heads, _ = self._linear
            if heads != key_heads or name.endswith(".conv1d.weight"):
                return None
        found = self._inner.stored(name)
        return None if found is None else (found[0], self._ordered(name, found[1]))

    def _ordered(self, name: str, array: np.ndarray) -> np.ndarray:
        heads, keys, dim = self._linear
        if ".linear_attn." in name and len(array) % heads and not name.endswith("norm.weight"):
            return array  # of another shape than it should have, which loading says
        return linear_order(name, array, (heads, keys, dim), back=True)

    def drop(self, name: str) -> None:
        self._inner.drop(name)

    def close(self) -> None:
        self._inner.close()
