"""Text from a model: prefill in chunks, then one token at a time through the cache; greedy or sampled,
streamed, batched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from .._core import Cache
from ..checks import refuse
from ..data.prompts import open_tokens
from ..errors import ConfigError, DataError
from ..lazy import contents
from ..signatures import options_of
from .base import switched, tokenizer_of
from .generation_config import end_tokens, stop_texts, warn_of_ignored
from .prefill import prefill
from .row import Row

if TYPE_CHECKING:
    from .base import BaseModel

__all__ = [
    "OptionKeywords",
    "Options",
    "Policy",
    "Prompt",
    "check_prompt",
    "check_room",
    "generate",
    "generate_texts",
    "pick",
    "prefill",
    "stop_tokens",
    "stream",
]
__dir__ = contents(__name__)


Policy = Callable[["BaseModel", int], int]  # (model, tokens that the sequence will have) -> softmax layers


Prompt = str | Sequence[int]


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

    def __post_init__(self) -> None:
        for name, low in (("max_new_tokens", 1), ("top_k", 0), ("seed", 0), ("prefill_chunk", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
                raise refuse(name, value, f"a whole number of at least {low}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise refuse("temperature", self.temperature, "a finite number of at least 0 (0 is greedy)")
        if not 0.0 < self.top_p <= 1.0:
            raise refuse("top_p", self.top_p, "above 0 and at most 1")
        if self.cache_dtype not in ("f32", "f16"):
            raise refuse("cache_dtype", self.cache_dtype, "f32, f16")
        if self.cache is not None and self.softmax_layers is not None:
            raise refuse("softmax_layers", self.softmax_layers, "None beside a cache, which has its own")
        single = isinstance(self.stop, (str, int, np.integer))
        stops: tuple[str | int, ...] = (self.stop,) if single else tuple(self.stop)  # type: ignore[arg-type,assignment]
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


@options_of(Options)
def generate(model: BaseModel, prompt: Prompt | Sequence[Prompt], **options: Unpack[OptionKeywords]) -> Any:
    """Continue a prompt, or a list of prompts as one batch. Options: see `Options`.

    A text prompt gives the new text: what decode(prompt + new tokens) has beyond decode(prompt). A prompt of
    token ids gives the list of new token ids (an end-of-text token is not part of it); a list of prompts
    gives a list. Raises ConfigError for a bad option, DataError for an empty prompt.
    """
    rows_of = (str, Sequence, np.ndarray)
    many = isinstance(prompt, (list, tuple)) and any(isinstance(p, rows_of) for p in prompt)
    prompts: list[Any] = list(prompt) if many else [prompt]
    rows = _run(model, prompts, Options(**options))
    results = [
        row.finish() if isinstance(p, str) else row.tokens for row, p in zip(rows, prompts, strict=True)
    ]
    return results if many else results[0]


@options_of(Options)
def generate_texts(
    model: BaseModel, prompts: Sequence[Prompt], **options: Unpack[OptionKeywords]
) -> list[str]:
    """`generate` of a list of prompts, also those of token ids, with the new text of each. Needs a model with
    a tokenizer.
    """
    tokenizer_of(model)
    return [row.finish() for row in _run(model, prompts, Options(**options))]


@options_of(Options)
def stream(model: BaseModel, prompt: Prompt, **options: Unpack[OptionKeywords]) -> Iterator[str]:
    """Continue one prompt and yield the new text in pieces as it is made; joined, they are what `generate`
    returns.

    Options are checked at the call, not at the first piece. Needs a model with a tokenizer.
    """
    settings = Options(**options)
    tokenizer_of(model)
    warn_of_ignored(model.model_config.generation)
    row = _row(model, prompt, settings, 0)

    def pieces() -> Iterator[str]:
        shown = 0
        for _ in _steps(model, [row], settings):
            if row.safe > shown:
                yield row.text[shown : row.safe]
                shown = row.safe
        rest = row.finish()[shown:]
        if rest:
            yield rest

    return pieces()


def _run(model: BaseModel, prompts: Sequence[Prompt], options: Options) -> list[Row]:
    """The rows of all prompts, continued to their ends."""
    warn_of_ignored(model.model_config.generation)
    rows = [_row(model, prompt, options, i) for i, prompt in enumerate(prompts)]
    for _ in _steps(model, rows, options):
        pass
    return rows


def _row(model: BaseModel, prompt: Prompt, options: Options, index: int) -> Row:
    """A row that has room for its continuation."""
    tokens = _encode(model, prompt)
    held = [0] if options.cache is None else options.cache.lengths
    check_room(model, len(tokens) + int(held[index if index < len(held) else 0]), options)  # one serves all
    if options.stop_texts and model.tokenizer is None:
        raise refuse("stop", options.stop_texts[0], "token ids, for a model without tokenizer")
    texts = options.stop_texts
    if model.tokenizer is not None:
        texts += stop_texts(model.model_config.generation)
    return Row(model.tokenizer, tokens, options.stop_tokens | stop_tokens(model), texts)


def check_room(model: BaseModel, before: int, options: Options) -> None:
    """ConfigError for a continuation beyond the model's positions after `before` tokens, unless asked for."""
    limit = model.model_config.max_positions
    if before + options.max_new_tokens > limit and not options.beyond_positions:
        raise ConfigError(
            f"max_new_tokens is {options.max_new_tokens} after {before} tokens; allowed: "
            f"{max(0, limit - before)}, as the model has {limit} positions, or beyond_positions=True"
        )


def stop_tokens(model: BaseModel) -> frozenset[int]:
    """The end-of-text tokens that config.json and generation_config.json name, or else the tokenizer's."""
    config = model.model_config
    named = frozenset(config.eos_token_ids).union(end_tokens(config.generation))
    if named or model.tokenizer is None or model.tokenizer.eos_token_id is None:
        return named
    return frozenset([model.tokenizer.eos_token_id])


def _encode(model: BaseModel, prompt: Prompt) -> list[int]:
    """Token ids of a prompt; an empty text starts from the beginning-of-text token."""
    if not isinstance(prompt, str):
        return check_prompt(prompt)
    tokenizer = tokenizer_of(model)
    tokens = open_tokens(tokenizer, prompt)
    if not tokens and tokenizer.bos_token_id is not None:
        tokens = [tokenizer.bos_token_id]
    return check_prompt(tokens)


def check_prompt(tokens: Any) -> list[int]:
    """A prompt of token ids as a list, or DataError. The model checks that it has the ids."""
    allowed = "a text, or a list of token ids"
    try:
        values = list(tokens)
    except TypeError:
        raise DataError(f"prompt is {tokens!r:.80}; allowed: {allowed}") from None
    if not values:
        raise DataError("prompt is empty; allowed: one token or more")
    if any(isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in values):
        raise DataError(f"prompt is {tokens!r:.80}; allowed: {allowed}")
    return [int(token) for token in values]


def _steps(model: BaseModel, rows: list[Row], options: Options) -> Iterator[None]:
    """Feed every row one token per iteration until all have stopped."""
    rngs = [np.random.default_rng([options.seed, i]) for i in range(len(rows))]
    cache = _start(model, rows, options)
    logits = prefill(model, [row.prompt for row in rows], cache, options.prefill_chunk)
    for count in range(1, options.max_new_tokens + 1):
        chosen = np.zeros((len(rows), 1), np.int32)
        for i, row in enumerate(rows):
            if not row.done:
                chosen[i, 0] = pick(logits[i], options.temperature, options.top_k, options.top_p, rngs[i])
                row.put(int(chosen[i, 0]))
        yield
        if count == options.max_new_tokens or all(row.done for row in rows):
            return
        # a row that has stopped goes on with token 0; nothing of it is read
        logits = model.logits(chosen, cache=cache, last=True)


def _start(model: BaseModel, rows: list[Row], options: Options) -> Cache:
    """The cache to go on from, with room for prompts and continuations; it keeps the choice of softmax layers
    that it is made under.
    """
    if options.cache is not None:
        cache = _continued(options.cache, len(rows))
    else:
        choice = options.softmax_layers
        if callable(choice):
            choice = choice(model, max(len(row.prompt) for row in rows) + options.max_new_tokens)
        if choice is None:
            cache = model.cache(len(rows), options.cache_dtype)
        else:
            with switched(model, choice):
                cache = model.cache(len(rows), options.cache_dtype)
    cache.reserve([len(row.prompt) + options.max_new_tokens for row in rows])
    return cache


def _continued(cache: Cache, count: int) -> Cache:
    """A copy of the cache for `count` prompts."""
    held = len(cache.lengths)
    if held not in (1, count):
        raise refuse("cache", f"one of {held} sequences", f"1 or {count} sequences, as there are prompts")
    return cache.fork(count)


def pick(
    logits: npt.NDArray[np.float32], temperature: float, top_k: int, top_p: float, rng: np.random.Generator
) -> int:
    """One token of logits [V]: the most likely one at temperature 0, else one drawn within top_k and
    top_p.
    """
    if temperature == 0.0:
        return int(logits.argmax())
    # divided after the largest is taken away: any temperature above 0 will do
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    ids = np.arange(len(scaled))
    if 0 < top_k < len(scaled):
        ids = np.argpartition(-scaled, top_k - 1)[:top_k]
    ids = ids[np.argsort(-scaled[ids], kind="stable")]
    weights = np.exp(scaled[ids] - scaled[ids[0]])
    total = np.cumsum(weights)
    if top_p < 1.0:
        kept = int(np.searchsorted(total, top_p * total[-1])) + 1
        ids, total = ids[:kept], total[:kept]
    at = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
    return int(ids[min(at, len(ids) - 1)])  # the product can round up to the total
