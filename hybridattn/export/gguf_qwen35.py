"""What GGUF files of architecture `qwen35` hold: padded hybrids, and models of the family itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..formats.gguf_qwen35 import linear_order, zero_centred
from . import gguf_vocabulary, qwen3_5, qwen3_5_native, qwen3_5_tensors, rope
from .gguf_file import Values
from .registry import Misfit
from .weights import Array

if TYPE_CHECKING:
    from ..model.model import Model

ROPE_KINDS = ("default", "linear", "yarn")  # of which this graph has a place for the numbers


def misfits(model: Model) -> list[Misfit]:
    """What of a model of the family llama.cpp cannot hold."""
    found = qwen3_5_native.misfits(model)
    reasons = [rope.misfit(model, ROPE_KINDS), gguf_vocabulary.misfit(model)]
    if model.model_config.output_bias:
        reasons.append("its attention has a bias on the output, which llama.cpp's qwen35 has no place for")
    return found + [Misfit(reason) for reason in reasons if reason]


def padded_keys(model: Model, taps: int) -> Values:
    """Of a hybrid of another family: linear layers have the heads of softmax layers, which are padded."""
    c = model.model_config
    room = c.head_dim if c.qk_norm else qwen3_5_tensors.padded_dim(c.head_dim)
    return _keys(model, room, c.head_dim, (c.num_heads, c.num_heads, c.head_dim, taps))


def keys(model: Model) -> Values:
    """Of a model of the family."""
    c, spec = model.model_config, qwen3_5_native.linear_spec(model)
    shape = (spec["heads"], spec["key_heads"], spec["head_dim"], spec["conv"])
    return _keys(model, c.head_dim, 2 * len(c.rope_inv_freq), shape)


def _keys(model: Model, room: int, turns: int, linear: tuple[int, int, int, int]) -> Values:
    heads, key_heads, dim, taps = linear
    return {
        "attention.key_length": room,
        "attention.value_length": room,
        "rope.dimension_count": turns,
        "rope.dimension_sections": [*qwen3_5.sections(turns // 2), 0],
        "ssm.conv_kernel": taps,
        "ssm.inner_size": heads * dim,
        "ssm.state_size": dim,
        "ssm.time_step_rank": heads,
        "ssm.group_count": key_heads,
        "attention.recurrent_layers": [specs[0]["kind"] != "softmax" for specs in model.layers],
    }


def tensors(model: Model) -> Iterator[tuple[str, Array]]:
    """Of a model of the family, by the names of its checkpoints."""
    spec = qwen3_5_native.linear_spec(model)
    shape = (spec["heads"], spec["key_heads"], spec["head_dim"])
    for name, array in qwen3_5_native.tensors(model).items():
        plain = array + np.float32(1) if zero_centred(name) else array
        yield value(name, linear_order(name, plain, shape))


def value(name: str, array: Array) -> tuple[str, Array]:
    """As llama.cpp holds it: the decay's rate itself, and a kernel without the dimension of 1."""
    if name.endswith("A_log"):
        return name, -np.exp(array)
    return name, array[:, 0] if name.endswith("conv1d.weight") else array
