"""The tensors of a decoder of softmax and window layers, by the Hugging Face names of Llama and Qwen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .weights import Array, Weights

if TYPE_CHECKING:
    from ..model.model import Model

_NORMS = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")


def tensors(model: Model, zero_biases: bool = False) -> Iterator[tuple[str, Array]]:
    """(name, float32) of every tensor. zero_biases: q, k and v get biases of zero where they have none."""
    weights, config = Weights(model), model.model_config
    yield "model.embed_tokens.weight", weights["embed.weight"]
    for i, specs in enumerate(model.layers):
        before, ours, mixer = f"model.layers.{i}.", f"layers.{i}.", specs[0]["kind"]
        for own, theirs in _NORMS.items():
            yield f"{before}{theirs}.weight", weights[f"{ours}{own}.weight"]
        for part in _PARTS:
            weight, bias = (weights.get(f"{ours}{mixer}.{part}.{which}") for which in ("weight", "bias"))
            if weight is None:
                continue
            yield f"{before}self_attn.{part}.weight", weight
            if bias is None and zero_biases and part in _PARTS[:3]:
                bias = np.zeros(len(weight), np.float32)
            if bias is not None:
                yield f"{before}self_attn.{part}.bias", bias
        for part in ("gate", "up", "down"):
            yield f"{before}mlp.{part}_proj.weight", weights[f"{ours}mlp.{part}_proj.weight"]
    yield "model.norm.weight", weights["final_norm.weight"]
    if not config.tie_embeddings:
        yield "lm_head.weight", weights["lm_head.weight"]


def interleaved(array: Array, dim: int) -> Array:
    """Rows of q or k in the order in which llama.cpp's llama turns them: neighbours are a pair."""
    heads = array.reshape(-1, 2, dim // 2, *array.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(array.shape)
