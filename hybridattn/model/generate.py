"""Text from a model: prefill in chunks, then one token at a time through the cache; greedy or sampled,
streamed, batched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .._core import Cache
from ..checks import refuse
from ..data.prompts import open_tokens
from ..errors import ConfigError, DataError
from ..lazy import contents
from ..signatures import options_of
from .base import BaseModel, switched, tokenizer_of
from .choice import Foresight, pick
from .drafts import Draft, LookupDraft, ModelDraft
from .generate_options import OptionKeywords, Options, Policy
from .generation_config import end_tokens, stop_texts, warn_of_ignored
from .prefill import prefill
from .row import Row
from .speculative import Speculation, room

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


Prompt = str | Sequence[int]


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

    def choose(at: npt.NDArray[np.float32], i: int) -> int:
        return pick(at, options.temperature, options.top_k, options.top_p, rngs[i])

    most = room(options.speculative, len(rows))
    if most:
        draft = _draft(model, rows, options, most)
        yield from Speculation(model, rows, cache, most, choose).steps(logits, draft, options.max_new_tokens)
        return
    for count in range(1, options.max_new_tokens + 1):
        chosen = np.zeros((len(rows), 1), np.int32)
        for i, row in enumerate(rows):
            if not row.done:
                chosen[i, 0] = choose(logits[i], i)
                row.put(int(chosen[i, 0]))
        yield
        if count == options.max_new_tokens or all(row.done for row in rows):
            return
        # a row that has stopped goes on with token 0; nothing of it is read
        logits = model.logits(chosen, cache=cache, last=True)


def _draft(model: BaseModel, rows: list[Row], options: Options, most: int) -> Draft:
    """What guesses; it has read the prompts."""
    draft: Draft = LookupDraft()
    if options.draft not in (None, "lookup"):
        other = options.draft if isinstance(options.draft, BaseModel) else model
        size, wanted = other.config["vocab_size"], model.config["vocab_size"]
        if size != wanted:
            raise refuse("draft", f"a model of {size} tokens", f"one of {wanted}, as the model has")
        ahead = Foresight(options.seed, len(rows), options.temperature, options.top_k, options.top_p)
        draft = ModelDraft(other, options.draft == "linear", most, ahead)
    draft.start([row.prompt for row in rows], options.prefill_chunk)
    return draft


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
