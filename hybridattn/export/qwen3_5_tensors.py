"""The tensors of a Qwen3.5 text model from a gated_delta hybrid, by their Hugging Face names.

Linear layers, H heads of d channels: `in_proj_qkv` is q, k and v on top of each other, `in_proj_z` the output
gate, `in_proj_b` and `in_proj_a` the gates of the recurrence, `norm` is not zero-centred. silu follows the
convolution, which is the identity where the hybrid has none.

Softmax layers: `q_proj` holds for each head its query rows and then as many of a gate on the output,
sigmoid(0) = 1/2 here, which a doubled `o_proj` undoes exactly. q and k are normed: `constant` says how that
is made to do nothing for teachers that do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from .constant import Constants
from .expanded import Expanded
from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

_PAD = 16  # heads are padded to a multiple of this, which attention kernels want


def padded_dim(dim: int) -> int:
    """Channels of a head with room for the constant one."""
    return (dim // _PAD + 1) * _PAD


def zero_centred(name: str) -> bool:
    """Whether safetensors hold the weight less 1: that of every RMSNorm but the linear layers' own."""
    return name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight")


def tensors(
    model: Model, constants: Mapping[int, Constants], taps: int, dtype: str = "float32"
) -> Iterator[tuple[str, Array]]:
    """(name, float32) of every tensor; norms are those that multiply, not less 1.

    dtype: what they will be rounded to. A norm's weight less 1 is coarse in 16 bits where the weight is
    small; what that loses is put into the columns of the matrices that read the norm.
    """
    weights, config = Expanded(model), model.model_config
    yield "model.embed_tokens.weight", weights["embed.weight"]
    for i, specs in enumerate(model.layers):
        before, ours = f"model.layers.{i}.", f"layers.{i}."
        norm, columns = _norm(weights[f"{ours}mixer_norm.weight"], dtype)
        yield f"{before}input_layernorm.weight", norm
        if specs[0]["kind"] == "softmax":
            made = _softmax(model, weights, f"{ours}softmax.", constants.get(i), columns)
            yield from ((f"{before}self_attn.{name}", array) for name, array in made)
        else:
            made = _linear(weights, f"{ours}gated_delta.", taps, columns)
            yield from ((f"{before}linear_attn.{name}", array) for name, array in made)
        norm, columns = _norm(weights[f"{ours}mlp_norm.weight"], dtype)
        yield f"{before}post_attention_layernorm.weight", norm
        for part in ("gate", "up"):
            yield f"{before}mlp.{part}_proj.weight", _times(weights[f"{ours}mlp.{part}_proj.weight"], columns)
        yield f"{before}mlp.down_proj.weight", weights[f"{ours}mlp.down_proj.weight"]
    final = weights["final_norm.weight"]
    if config.tie_embeddings:  # the head is the embedding, so its columns are not free
        yield "model.norm.weight", final
        return
    norm, columns = _norm(final, dtype)
    yield "model.norm.weight", norm
    yield "lm_head.weight", _times(weights["lm_head.weight"], columns)


def _norm(weight: Array, dtype: str) -> tuple[Array, Array | None]:
    """(weight as it will be read back, what the columns behind it are multiplied with or None)."""
    if dtype == "float32":
        return weight, None
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16)
    less = (weight - np.float32(1)).astype(kind).astype(np.float32)
    nearest = np.nextafter(np.array(-1, kind), np.array(0, kind)).astype(np.float32)
    less = np.where((less == -1) & (weight != 0), nearest, less)  # else a channel would be lost
    read = less + np.float32(1)
    ratio = np.divide(weight, read, out=np.ones_like(read), where=read != 0)
    return read, None if (ratio == 1).all() else ratio


def _times(matrix: Array, columns: Array | None) -> Array:
    return matrix if columns is None else matrix * columns


def _linear(weights: Weights, ours: str, taps: int, columns: Array | None) -> Iterator[tuple[str, Array]]:
    joined = [weights[f"{ours}{part}_proj.weight"] for part in "qkv"]
    yield "in_proj_qkv.weight", _times(np.concatenate(joined), columns)
    for theirs, part in (("z", "g"), ("b", "b"), ("a", "a")):
        yield f"in_proj_{theirs}.weight", _times(weights[f"{ours}{part}_proj.weight"], columns)
    kernel = np.zeros((len(joined[0]) * 3, 1, taps), np.float32)
    if f"{ours}q_conv.weight" in weights:
        own = np.concatenate([weights[f"{ours}{part}_conv.weight"] for part in "qkv"])
        kernel[:, 0, taps - own.shape[1] :] = own
    else:
        kernel[:, 0, -1] = 1  # the last tap is the token itself
    yield "conv1d.weight", kernel
    yield "A_log", weights[f"{ours}A_log"]
    yield "dt_bias", weights[f"{ours}dt_bias"]
    yield "norm.weight", weights[f"{ours}norm.weight"]
    yield "out_proj.weight", weights[f"{ours}o_proj.weight"]


def _softmax(
    model: Model, weights: Weights, ours: str, constants: Constants | None, columns: Array | None
) -> Iterator[tuple[str, Array]]:
    config = model.model_config
    dim, room = config.head_dim, config.head_dim if constants is None else padded_dim(config.head_dim)
    heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}
    value = {"q": 0.0, "k": 0.0, "v": 0.0}
    if constants is not None:
        value |= {"q": constants.query, "k": constants.key}
    for part, count in heads.items():
        rows = 2 * room if part == "q" else room  # a gate of zeros behind the queries
        matrix = weights[f"{ours}{part}_proj.weight"]
        padded = np.zeros((count, rows, matrix.shape[1]), np.float32)
        padded[:, :dim] = _times(matrix, columns).reshape(count, dim, -1)
        yield f"{part}_proj.weight", padded.reshape(count * rows, -1)
        bias = weights.get(f"{ours}{part}_proj.bias")
        if constants is None and bias is None:
            continue
        wide = np.zeros((count, rows), np.float32)
        if bias is not None:
            wide[:, :dim] = bias.reshape(count, dim)
        if constants is not None:
            wide[:, dim] = value[part]
        yield f"{part}_proj.bias", wide.reshape(-1)
    output = weights[f"{ours}o_proj.weight"]
    wide = np.zeros((len(output), config.num_heads, room), np.float32)
    wide[:, :, :dim] = 2 * output.reshape(len(output), config.num_heads, dim)
    yield "o_proj.weight", wide.reshape(len(output), -1)
    if constants is not None or config.attention_bias:
        bias = weights.get(f"{ours}o_proj.bias")
        yield "o_proj.bias", np.zeros(len(output), np.float32) if bias is None else bias
    for part in "qk":
        if constants is None:
            yield f"{part}_norm.weight", weights[f"{ours}{part}_norm.weight"]
        else:
            norm = np.zeros(room, np.float32)
            norm[:dim] = constants.query_weight if part == "q" else constants.key_weight
            yield f"{part}_norm.weight", norm
