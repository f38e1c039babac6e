"""One checkpoint, any budget: a model that holds both mixers of every layer and the order in which layers
deserve their softmax, so that the number of softmax layers is chosen when it is loaded or run.

The paper (arXiv 2512.20569) names switching the kind of attention at inference as future work.
`radlads.distill` with `elastic` trains the shared weights over budgets drawn step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .config import check_int, refuse

if TYPE_CHECKING:
    from .model import Model
    from .select import LayerScores

ROOM = 128  # tokens by which a cache grows
Policy = Callable[["Model", int], int]  # (model, tokens that the sequence will have) -> softmax layers


def make(probe: Model, scores: LayerScores) -> Model:
    """A copy of `probe` that knows the order of `scores`: `set_softmax_layers(k)` keeps the k highest.
    ConfigError for scores whose sets are not the beginnings of one order.
    """
    if not scores.nested:
        raise refuse("method", scores.method, "one whose larger sets hold its smaller ones")
    model = probe.copy()
    model.softmax_order = order_of(scores.order.tolist(), len(model.layers))
    return model


def order_of(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """`layers` as an order of all layers, the one that keeps its softmax longest first. ConfigError if it is
    not.
    """
    if sorted(layers) != list(range(num_layers)):
        raise refuse("softmax_order", list(layers), f"every layer from 0 to {num_layers - 1} once")
    return tuple(int(i) for i in layers)


def chosen(model: Model, softmax_layers: int | Sequence[int]) -> list[int]:
    """The layers that stay softmax: an int means the first so many of the model's order, a sequence names
    them. ConfigError for a number without an order, or a layer that is not there.
    """
    count = len(model.layers)
    if isinstance(softmax_layers, (int, np.integer)):
        if model.softmax_order is None:
            raise refuse("softmax_order", None, "a model made by elastic.make, to choose layers by number")
        return list(model.softmax_order[: check_int("softmax_layers", int(softmax_layers), 0, count)])
    given: Any = softmax_layers
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refuse("softmax_layers", given, "a number of layers, or the layers")
    keep = [i.item() if isinstance(i, np.integer) else i for i in given]
    if not all(type(i) is int and 0 <= i < count for i in keep):
        raise refuse("softmax_layers", keep, f"layers from 0 to {count - 1}")
    return keep


def gates_for(model: Model, softmax_layers: int | Sequence[int]) -> np.ndarray:
    """float32 [num_layers]: 1 where a layer is softmax. ConfigError as `chosen`, or when a layer lacks the
    mixer.
    """
    gates = np.zeros(len(model.layers), np.float32)
    gates[chosen(model, softmax_layers)] = 1.0
    for layer, specs in enumerate(model.layers):
        kinds = [spec["kind"] == "softmax" for spec in specs]
        if (gates[layer] == 1.0 and not any(kinds)) or (gates[layer] == 0.0 and all(kinds)):
            wanted = "softmax" if gates[layer] else "a linear mixer"
            raise refuse(f"layer {layer}", [spec["kind"] for spec in specs], f"a layer that holds {wanted}")
    return gates


@contextmanager
def switched(model: Model, softmax_layers: int | Sequence[int]) -> Iterator[None]:
    """The model with other softmax layers for the length of a `with` block."""
    before = model.gates.copy()
    model.gates[:] = gates_for(model, softmax_layers)
    try:
        yield
    finally:
        model.gates[:] = before


def by_length(*steps: tuple[int, int]) -> Policy:
    """A policy for `generate`: (tokens, softmax layers) pairs; the last pair whose tokens are reached counts.

    `by_length((0, 30), (2048, 15), (8192, 8))` keeps all layers softmax for short sequences and 8 from 8192
    tokens on.
    """
    if not steps or steps[0][0] != 0 or list(steps) != sorted(steps):
        raise refuse("steps", steps, "(tokens, softmax layers) pairs, ascending, the first from 0 tokens")

    def policy(_model: Model, tokens: int) -> int:
        return next(k for start, k in reversed(steps) if tokens >= start)

    return policy


def by_memory(limit: int, cache_dtype: Literal["f32", "f16"] = "f32") -> Policy:
    """A policy for `generate`: as many softmax layers as keep the cache of one sequence within `limit` bytes
    (none, if even that does not). cache_dtype: the one that `generate` is given.
    """
    check_int("limit", limit, 1)

    def policy(model: Model, tokens: int) -> int:
        order = model.softmax_order or ()
        return max(
            (k for k in range(len(order) + 1) if cache_bytes(model, k, tokens, cache_dtype) <= limit),
            default=0,
        )

    return policy


def cache_bytes(
    model: Model, softmax_layers: int | Sequence[int], tokens: int, cache_dtype: Literal["f32", "f16"] = "f32"
) -> int:
    """Bytes of decode state of one sequence of `tokens` tokens, keys and values of `cache_dtype`, "f32" or
    "f16", with the room that a cache makes for it at once.
    """
    from ._core import Cache

    with switched(model, softmax_layers):
        cache = Cache(model, dtype=cache_dtype)
    return int(cache.nbytes + cache.bytes_per_token * -(-tokens // ROOM) * ROOM)


def sampler(model: Model, budgets: bool | Sequence[int], seed: int) -> Callable[[int], None]:
    """What elastic distillation does before step t: set the gates to a budget drawn from `budgets` (True: any
    from 0 to all layers) by (seed, t), so that a resumed run draws the same.
    """
    count = len(model.layers)
    choices: Any = list(range(count + 1)) if budgets is True else budgets
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise refuse("elastic", budgets, "True, or numbers of softmax layers")
    table = [gates_for(model, k) for k in choices]

    def before(step: int) -> None:
        model.gates[:] = table[int(np.random.default_rng([seed, step]).integers(len(table)))]

    return before
