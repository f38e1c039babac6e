"""How long the q and k of a model's softmax layers get on a text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.tokens import TokenData
from ..errors import DataError
from ..model.model import Model
from .weights import Weights

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = 512  # of a text that are read
# What is read when the caller gives no text: prose, a list, code and numbers.
PASSAGE = """\
The mill stood where the river bends. Its wheel had turned for two hundred years, and on still evenings people
in the village could hear it through open windows. When the miller died, nobody wanted the work: flour came in
paper bags by then, from a factory forty miles away.

Shopping list: 2 eggs, 500 g flour, salt, 1 l milk (whole), butter; call Anna +44 20 7946 0018 before 17:30!

def area(radius: float) -> float:
    return 3.14159 * radius ** 2  # square metres

Question: If a train leaves at 9:15 and arrives at 11:40, how long does the journey take?
Answer: 2 hours and 25 minutes. Je ne sais pas; das weiss ich nicht; no lo se.
"""


def token_ids(model: Model, text: Any) -> np.ndarray:
    """At most 512 token ids [n] of a text, of a TokenData, of ids, or of the package's own passage.

    A model without a tokenizer gets the passage as ids drawn from its vocabulary. Raises DataError.
    """
    vocabulary = model.model_config.vocab_size
    if text is None and model.tokenizer is None:
        return np.random.default_rng(0).integers(0, vocabulary, TOKENS).astype(np.int32)
    if text is None or isinstance(text, str):
        if model.tokenizer is None:
            raise DataError("text is given as text, but the model has no tokenizer; allowed: token ids")
        ids: Any = model.tokenizer.encode(PASSAGE if text is None else text)
    else:
        ids = text.tokens if isinstance(text, TokenData) else text
    found = np.asarray(ids)[:TOKENS]
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iu":
        raise DataError(f"text has the shape {found.shape} and type {found.dtype}; allowed: token ids [n]")
    if found.min() < 0 or found.max() >= vocabulary:
        raise DataError(f"text has the token id {found.max()}; allowed: 0 to {vocabulary - 1}")
    return np.ascontiguousarray(found, np.int32)


def query_key_lengths(model: Model, tokens: np.ndarray) -> dict[int, tuple[float, float]]:
    """{layer: (longest q, longest k)} of softmax layers: over heads and tokens, before any norm or RoPE."""
    weights, lengths = Weights(model), {}
    for layer, x in mixer_inputs(model, tokens, weights):
        if model.layers[layer][0]["kind"] == "softmax":
            query, key = (_longest(model, weights, f"layers.{layer}.softmax.{side}_proj", x) for side in "qk")
            lengths[layer] = query, key
    return lengths


def _longest(model: Model, weights: Weights, name: str, x: np.ndarray) -> float:
    rows = x @ weights[f"{name}.weight"].T
    bias = weights.get(f"{name}.bias")
    if bias is not None:
        rows += bias
    heads = rows.reshape(len(x), -1, model.model_config.head_dim)
    return float(np.sqrt(np.einsum("thd,thd->th", heads, heads).max()))


def mixer_inputs(model: Model, tokens: np.ndarray, weights: Weights) -> Iterator[tuple[int, np.ndarray]]:
    """(layer, normed input [n, hidden_size]) of every mixer up to the last softmax layer, on one sequence.

    Each layer runs as a model of its own, whose embedding is what the layer before gave.
    """
    config = model.model_config
    last = max((i for i, specs in enumerate(model.layers) if specs[0]["kind"] == "softmax"), default=-1)
    order = np.arange(len(tokens), dtype=np.int32)[None]
    # the residual stream is what a model without final norm and head calls hidden states
    alone = replace(
        config,
        num_layers=1,
        vocab_size=len(tokens),
        final_norm=False,
        lm_head=False,
        bos_token_id=None,
        eos_token_ids=(),
    )
    stream = weights["embed.weight"][tokens]
    for i in range(last + 1):
        mean = np.mean(np.square(stream), axis=1, keepdims=True)
        yield (
            i,
            stream / np.sqrt(mean + np.float32(config.norm_eps)) * weights[f"layers.{i}.mixer_norm.weight"],
        )
        if i == last:
            return
        one, stored = Model(alone, [model.layers[i]]), model.stored()
        for name, array in one.arrays().items():
            theirs = name.replace("layers.0.", f"layers.{i}.", 1)
            if name == "embed.weight":
                array[...] = stream
            elif theirs in stored:
                one.store(name, *stored[theirs])
            else:
                array[...] = weights[theirs]
        stream = one.hidden(order)[0]
