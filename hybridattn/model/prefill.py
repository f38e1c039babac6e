"""Prompts of unlike lengths read into a cache, in passes of bounded width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .._core import Cache
    from .base import BaseModel


def prefill(
    model: BaseModel, prompts: Sequence[Sequence[int]], cache: Cache, chunk: int = 2048
) -> npt.NDArray[np.float32]:
    """Run prompts of any lengths through the model into `cache`; float32 [B, V] logits after each of them.

    Prompts are cut into pieces of at most `chunk` tokens, padded on the left, so that every pass holds some
    of every prompt. Of prompts that are too long for as many passes as the shortest has tokens, the
    beginnings are read before, while the others wait.
    """
    cache.reserve([len(prompt) for prompt in prompts])
    rounds = min(map(len, prompts))
    heads = [prompt[: max(0, len(prompt) - rounds * chunk)] for prompt in prompts]
    if any(map(len, heads)):
        _read_beginnings(model, heads, cache, chunk)
    tails = [prompt[len(head) :] for prompt, head in zip(prompts, heads, strict=True)]
    return _passes(model, tails, cache, chunk)


def _read_beginnings(model: BaseModel, heads: Sequence[Sequence[int]], cache: Cache, chunk: int) -> None:
    """Read the heads into the cache; rows without one wait.

    A pass takes a token of every row, so the rows that wait are given some, and then what they held before.
    """
    waiting = {i for i, head in enumerate(heads) if not len(head)}
    before = {key: value for key, value in cache.state().items() if _row(key) in waiting}
    lengths = cache.lengths
    longest = max(map(len, heads))
    passes = -(-longest // chunk)
    prefill(model, [head if len(head) else [0] * passes for head in heads], cache, chunk)
    after = cache.state()
    lengths = np.where([i in waiting for i in range(len(heads))], lengths, after["lengths"])
    cache.load_state({**after, **before, "lengths": lengths})


def _row(key: str) -> int:
    """The sequence that an entry of a cache's state belongs to, -1 of one that belongs to all."""
    parts = key.split(".")  # layer.kind.sequence.part
    return int(parts[-2]) if len(parts) > 2 else -1


def _passes(
    model: BaseModel, prompts: Sequence[Sequence[int]], cache: Cache, chunk: int
) -> npt.NDArray[np.float32]:
    lengths = [len(prompt) for prompt in prompts]
    pieces = min(-(-max(lengths) // chunk), min(lengths))
    logits = np.zeros((0, 0), np.float32)
    for i in range(pieces):
        parts = [p[n * i // pieces : n * (i + 1) // pieces] for p, n in zip(prompts, lengths, strict=True)]
        width = max(len(part) for part in parts)
        tokens = np.zeros((len(parts), width), np.int32)
        mask = np.zeros((len(parts), width), np.bool_)
        for row, part in enumerate(parts):
            tokens[row, width - len(part) :] = part
            mask[row, width - len(part) :] = True
        logits = model.logits(tokens, mask=None if mask.all() else mask, cache=cache, last=True)
    return logits
