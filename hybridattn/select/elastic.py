"""One checkpoint, any budget: a model that holds both mixers of every layer and the order in which layers
deserve their softmax, so that the number of softmax layers is chosen when it is loaded or run.

The paper (arXiv 2512.20569) names switching the kind of attention at inference as future work.
`radlads.distill` with `elastic` trains the shared weights over budgets drawn step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .._core import Cache
from ..checks import check_int, refuse
from ..lazy import contents
from ..model.base import BaseModel, chosen, gates_for, switched
from ..model.generate import Policy
from ..model.saved import order_of

if TYPE_CHECKING:
    from ..model.model import Model
    from .scores import LayerScores

__all__ = [
    "Policy",
    "by_length",
    "by_memory",
    "cache_bytes",
    "chosen",
    "gates_for",
    "make",
    "order_of",
    "switched",
]
__dir__ = contents(__name__)

ROOM = 128  # tokens by which a cache grows


def make(probe: Model, scores: LayerScores) -> Model:
    """A copy of `probe` that knows the order of `scores`: `set_softmax_layers(k)` keeps the k highest.
    ConfigError for scores whose sets are not the beginnings of one order.
    """
    if not scores.nested:
        raise refuse("method", scores.method, "one whose larger sets hold its smaller ones")
    if scores.layers is not None:
        raise refuse("probe", "linear in some layers for good", "a probe with both mixers in every layer")
    model = probe.copy()
    model.softmax_order = order_of(scores.order.tolist(), len(model.layers))
    return model


def by_length(*steps: tuple[int, int]) -> Policy:
    """A policy for `generate`: (tokens, softmax layers) pairs; the last pair whose tokens are reached counts.

    `by_length((0, 30), (2048, 15), (8192, 8))` keeps all layers softmax for short sequences and 8 from 8192
    tokens on.
    """
    if not steps or steps[0][0] != 0 or list(steps) != sorted(steps):
        raise refuse("steps", steps, "(tokens, softmax layers) pairs, ascending, the first from 0 tokens")

    def policy(_model: BaseModel, tokens: int) -> int:
        return next(k for start, k in reversed(steps) if tokens >= start)

    return policy


def by_memory(limit: int, cache_dtype: Literal["f32", "f16"] = "f32") -> Policy:
    """A policy for `generate`: as many softmax layers as keep the cache of one sequence within `limit` bytes
    (none, if even that does not). cache_dtype: the one that `generate` is given.
    """
    check_int("limit", limit, 1)

    def policy(model: BaseModel, tokens: int) -> int:
        order = model.softmax_order or ()
        return max(
            (k for k in range(len(order) + 1) if cache_bytes(model, k, tokens, cache_dtype) <= limit),
            default=0,
        )

    return policy


def cache_bytes(
    model: BaseModel,
    softmax_layers: int | Sequence[int],
    tokens: int,
    cache_dtype: Literal["f32", "f16"] = "f32",
) -> int:
    """Bytes of decode state of one sequence of `tokens` tokens, keys and values of `cache_dtype`, "f32" or
    "f16", with the room that a cache makes for it at once.
    """
    with switched(model, softmax_layers):
        cache = Cache(model, dtype=cache_dtype)
    return int(cache.nbytes + cache.bytes_per_token * -(-tokens // ROOM) * ROOM)
