"""How likely a decoder finds continuations of a prompt. A prompt is read once for all its continuations: each
goes on from a fork of the prompt's cache; and what all prompts begin with is read once for all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_int
from ..data.prompts import encode_pair as encode_pair
from ..distributed.pieces import spread
from ..errors import DataError
from ..lazy import contents
from ..results.progress import bar
from .prefill import prefill

if TYPE_CHECKING:
    from .._core import Cache
    from .base import BaseModel

__all__ = ["SHARED_TOKENS", "Scored", "common", "continuations", "fit"]
__dir__ = contents(__name__)

SHARED_TOKENS = 32  # a common beginning of fewer tokens is not worth a fork


class Scored(NamedTuple):
    """A continuation: log p(continuation | prompt) in nats, its tokens, and whether each is the most likely
    one.
    """

    logprob: float
    tokens: int
    greedy: bool


def continuations(
    model: BaseModel,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int = 8,
    progress: bool = False,
    label: str = "choices",
) -> list[list[Scored]]:
    """For each prompt (token ids, one or more) its `choices[i]`, each scored as a continuation of it.

    Raises DataError for a prompt or a continuation without tokens, and where both exceed the model's
    positions (see `fit`); ConfigError.
    """
    check_int("batch_size", batch_size)
    _check(model, prompts, choices)
    shared, prefix = _shared(model, prompts)
    limit = model.model_config.max_positions
    # a prompt that fills all positions has choices of one token only, and no place to read such a token
    full = [i for i, prompt in enumerate(prompts) if len(prompt) >= limit]
    rest = sorted(set(range(len(prompts))) - set(full))
    batches = [part[at : at + batch_size] for part in (rest, full) for at in range(0, len(part), batch_size)]
    out: list[list[Scored]] = [[] for _ in prompts]

    def work(batch: list[int]) -> list[list[Scored]]:
        rows = [prompts[i][shared:] for i in batch]
        cache = model.cache(len(rows)) if prefix is None else prefix.fork(len(rows))
        return _batch(model, rows, [choices[i] for i in batch], cache)

    found = spread(batches, work, lambda mine: bar(mine, label, progress), "batches of prompts")
    for batch, scored in zip(batches, found, strict=True):
        for i, row in zip(batch, scored, strict=True):
            out[i] = row
    return out


def fit(model: BaseModel, prompt: Sequence[int], room: int, limit: int | None = None) -> list[int]:
    """The prompt, or as many of its last tokens as leave `room` of `limit` positions free, by default of the
    model's. room: the tokens that are read after the prompt, all of a continuation but its last.
    """
    limit = model.model_config.max_positions if limit is None else limit
    if room >= limit:
        raise DataError(
            f"{room} tokens are to be read after the prompt; allowed: {limit - 1}, with one before"
        )
    return list(prompt[room - limit :])


def common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with."""
    first, last = min(map(list, rows)), max(map(list, rows))  # all others lie between the two
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(differ, min(len(first), len(last)))


def _check(
    model: BaseModel, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]]
) -> None:
    if len(prompts) != len(choices):
        raise DataError(f"choices has {len(choices)} rows; allowed: {len(prompts)}, one a prompt")
    limit = model.model_config.max_positions
    for i, (prompt, row) in enumerate(zip(prompts, choices, strict=True)):
        if not len(prompt) or not len(row) or not all(map(len, row)):
            raise DataError(f"prompt {i} or a choice of it is empty; allowed: one token or more")
        total = len(prompt) + max(map(len, row))
        if total - 1 > limit:  # the last token is not read
            raise DataError(f"prompt {i} and its longest choice have {total} tokens; allowed: {limit + 1}")


def _shared(model: BaseModel, prompts: Sequence[Sequence[int]]) -> tuple[int, Cache | None]:
    """(how many tokens all prompts begin with, their cache), or (0, None) when that is not worth it."""
    if len(prompts) < 2:
        return 0, None
    count = min(common(prompts), min(map(len, prompts)) - 1)
    if count < SHARED_TOKENS:
        return 0, None
    cache = model.cache(1)
    prefill(model, [prompts[0][:count]], cache)
    return count, cache


def _batch(
    model: BaseModel, rows: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]], cache: Cache
) -> list[list[Scored]]:
    after = prefill(model, rows, cache)
    out: list[list[Scored]] = [[] for _ in rows]
    for j in range(max(map(len, choices))):
        # a row with fewer choices goes along with its last one
        texts = [list(row[min(j, len(row) - 1)]) for row in choices]
        width = max(map(len, texts))
        rest = None
        if width > 1:  # logits after all tokens but the last; a row of one token reads it for nothing
            tokens = np.zeros((len(rows), width - 1), np.int32)
            mask = np.zeros(tokens.shape, np.bool_)
            for i, text in enumerate(texts):
                part = text[:-1] or text
                tokens[i, width - 1 - len(part) :] = part
                mask[i, width - 1 - len(part) :] = True
            rest = model.logits(tokens, mask=None if mask.all() else mask, cache=cache.fork())
        for i, text in enumerate(texts):
            if j < len(choices[i]):
                logits = after[i : i + 1]
                if len(text) > 1:
                    assert rest is not None
                    logits = np.concatenate([logits, rest[i, width - len(text) :]])
                out[i].append(_score(logits, text))
    return out


def _score(logits: npt.NDArray[np.float32], tokens: Sequence[int]) -> Scored:
    """logits [T, V] that predict `tokens` [T]."""
    top = logits.max(axis=1).astype(np.float64)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    hit = logits[np.arange(len(tokens)), tokens].astype(np.float64)
    greedy = bool((logits.argmax(axis=1) == tokens).all())
    return Scored(float((hit - total).sum()), len(tokens), greedy)
