"""mamba2 hybrids as GGUF architecture `granitehybrid`, as llama.cpp has it for Bamba.

llama.cpp wants an inner width of twice the hidden size, so heads of zeros are put behind the hybrid's own:
their x and their gate are 0, and so is what comes out of the norm of their group. It turns neighbouring
channels, and adds the convolution's bias unasked. Layers without key heads are the recurrent ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bamba, decoder
from .plain_tensors import interleaved
from .registry import Misfit
from .weights import Array

if TYPE_CHECKING:
    from ..model.model import Model

ARCHITECTURE = "granitehybrid"


def heads(model: Model) -> int:
    """Heads of a recurrent layer, those of zeros among them."""
    return 2 * model.model_config.hidden_size // model.model_config.head_dim


def misfits(model: Model) -> list[Misfit]:
    """What of its body and layers the architecture has no place for."""
    config = model.model_config
    found = bamba.own_misfits(model)
    if 2 * config.hidden_size % config.head_dim or heads(model) < config.num_heads:
        found.append(
            Misfit(
                f"its heads have {config.num_heads} times {config.head_dim} channels, which llama.cpp's "
                f"granitehybrid cannot fill up to twice hidden_size ({2 * config.hidden_size})"
            )
        )
    if all(specs[0]["kind"] != "softmax" for specs in model.layers):
        found.append(Misfit("it has no softmax layer; allowed: at least one"))
    return found


def keys(model: Model) -> dict[str, Any]:
    """Metadata beside what every architecture has."""
    c = model.model_config
    return {
        "attention.head_count_kv": [
            c.num_kv_heads if specs[0]["kind"] == "softmax" else 0 for specs in model.layers
        ],
        "attention.key_length": c.head_dim,
        "attention.value_length": c.head_dim,
        "rope.scaling.finetuned": True,  # what turns RoPE on there
        "ssm.conv_kernel": decoder.taps(model),
        "ssm.inner_size": 2 * c.hidden_size,
        "ssm.state_size": c.head_dim,
        "ssm.time_step_rank": heads(model),
        "ssm.group_count": heads(model),
    }


def tensors(model: Model) -> Iterator[tuple[str, Array]]:
    """(name as in a Bamba checkpoint, float32) of every tensor."""
    c = model.model_config
    own, all_heads = c.num_heads, heads(model)

    def filled(array: Array, width: int = 1) -> Array:
        """Rows of zeros behind those of the own heads, `width` rows a head."""
        return np.concatenate([array, np.zeros(((all_heads - own) * width, *array.shape[1:]), np.float32)])

    for name, array in bamba.tensors(model):
        part = name.rpartition("mamba.")[2]
        if part == "in_proj.weight":
            inner = own * c.head_dim
            blocks = np.split(array, [inner, 2 * inner, 3 * inner, 4 * inner])
            yield name, np.concatenate([*(filled(b, c.head_dim) for b in blocks[:4]), filled(blocks[4])])
        elif part == "conv1d.weight":
            joined = np.concatenate([filled(block, c.head_dim) for block in np.split(array[:, 0], 3)])
            yield name, joined
            yield name.replace("weight", "bias"), np.zeros(len(joined), np.float32)
        elif part == "norm.weight":
            yield name, filled(array, c.head_dim).reshape(all_heads, c.head_dim)
        elif part == "out_proj.weight":
            yield name, np.ascontiguousarray(filled(array.T, c.head_dim).T)
        elif part == "A_log":
            yield name, -np.exp(filled(array))[:, None]
        elif part in ("D", "dt_bias"):
            yield name, filled(array)[:, None] if part == "D" else filled(array)
        elif ".q_proj." in name or ".k_proj." in name:
            yield name, interleaved(array, c.head_dim)
        else:
            yield name, array
