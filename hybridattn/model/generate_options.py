"""How to continue a prompt: the options of `generate`, `stream` and the command line."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from .._core import Cache
from ..checks import refuse
from .base import BaseModel
from .speculative import MOST_ROWS

Policy = Callable[["BaseModel", int], int]  # (model, tokens that the sequence will have) -> softmax layers


@dataclass(frozen=True)
class Options:
    """How to continue a prompt. Every value is checked here; ConfigError names the field.

    max_new_tokens: at most this many tokens. temperature: 0 takes the most likely token (greedy), else
    logits are divided by it and a token is drawn. top_k: draw among the k most likely (0: all). top_p: draw
    among the fewest tokens that hold this share of the probability. stop: texts and token ids that end the
    continuation, beside the end-of-text tokens of config.json and generation_config.json and the latter's
    stop texts (its other settings, such as temperature, are not applied); a stop text is not part of the
    result, and may hold special tokens. seed: row i of a batch draws from generator (seed, i).
    prefill_chunk: tokens of the prompt per forward pass; bounds memory, does not change the result.
    softmax_layers: of a model with both mixers, how many layers (or which) are softmax, or a policy (model,
    tokens) -> number such as `elastic.by_length`; tokens: those of the longest prompt and max_new_tokens.
    cache: what has gone before the prompt; the continuation starts from a copy, so that one prefix serves
    many prompts, and keeps its type and its softmax layers. A cache of one sequence goes before every
    prompt of a list. cache_dtype: how the keys and values of a new cache are stored, "f32" or "f16".
    beyond_positions: go on past the model's positions, where RoPE turns by angles that training has not
    shown; an error otherwise.

    speculative: guess up to this many tokens ahead and read them in one pass; the text stays the same,
    greedy or sampled, whatever the guesses. 0: one token a pass. Of a batch, at most 16 tokens are read in
    a pass, so from 9 prompts on nothing is guessed. draft: what guesses: "lookup", the default, what
    followed the same tokens before in the text; "linear", this model with all its layers linear; or another
    model of the same vocabulary.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop: str | int | Sequence[str | int] = ()
    seed: int = 0
    prefill_chunk: int = 2048
    softmax_layers: int | Sequence[int] | Policy | None = None
    cache: Cache | None = None
    cache_dtype: str = "f32"
    beyond_positions: bool = False
    speculative: int = 0
    draft: str | BaseModel | None = None

    def __post_init__(self) -> None:
        for name, low in (
            ("max_new_tokens", 1),
            ("top_k", 0),
            ("seed", 0),
            ("prefill_chunk", 1),
            ("speculative", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
                raise refuse(name, value, f"a whole number of at least {low}")
        for name in ("temperature", "top_p"):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, numbers.Real):
                raise refuse(name, value, "a number")
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise refuse("temperature", self.temperature, "a finite number of at least 0 (0 is greedy)")
        if not 0.0 < self.top_p <= 1.0:
            raise refuse("top_p", self.top_p, "above 0 and at most 1")
        if self.cache_dtype not in ("f32", "f16"):
            raise refuse("cache_dtype", self.cache_dtype, "f32, f16")
        if self.cache is not None and self.softmax_layers is not None:
            raise refuse("softmax_layers", self.softmax_layers, "None beside a cache, which has its own")
        if self.speculative > MOST_ROWS - 1:
            raise refuse("speculative", self.speculative, f"0 to {MOST_ROWS - 1}")
        if not isinstance(self.draft, BaseModel) and self.draft not in (None, "lookup", "linear"):
            raise refuse("draft", self.draft, "lookup, linear, or a model")
        if self.draft is not None and not self.speculative:
            raise refuse("speculative", 0, "1 or more beside a draft")
        given: Any = self.stop
        if given is None:
            given = ()
        single = isinstance(given, (str, int, np.integer))
        if not single and not isinstance(given, Iterable):
            raise refuse("stop", given, "a text, a token id, or several")
        stops: tuple[str | int, ...] = (given,) if single else tuple(given)
        object.__setattr__(self, "stop", stops)
        for item in stops:
            if item == "" or isinstance(item, bool) or not isinstance(item, (str, int, np.integer)):
                raise refuse("stop", item, "texts that are not empty, and token ids")

    @property
    def stop_texts(self) -> tuple[str, ...]:
        return tuple(item for item in self.stop if isinstance(item, str))  # type: ignore[union-attr]

    @property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset(int(item) for item in self.stop if not isinstance(item, str))  # type: ignore[union-attr]


class OptionKeywords(TypedDict, total=False):
    """The fields of `Options` as keywords, for type checkers."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    stop: str | int | Sequence[str | int]
    seed: int
    prefill_chunk: int
    softmax_layers: int | Sequence[int] | Policy | None
    cache: Cache | None
    cache_dtype: str
    beyond_positions: bool
    speculative: int
    draft: str | BaseModel | None
