"""What may come next, guessed: drafts for `speculative`. A bad guess costs time and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .base import switched
from .prefill import prefill

if TYPE_CHECKING:
    import numpy.typing as npt

    from .base import BaseModel

# (logits [V], row, place among its new tokens) -> the token that would be chosen there
Choose = Callable[["npt.NDArray[np.float32]", int, int], int]


class Draft(Protocol):
    """Guesses for the rows of a batch."""

    def start(self, texts: Sequence[Sequence[int]], chunk: int) -> None:
        """The prompts of all rows, before anything else."""

    def propose(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        """At most counts[i] tokens that may follow texts[i], prompt and new tokens; texts only grow from
        call to call.
        """


class LookupDraft:
    """Tokens that followed the same last few tokens before, in the prompt or in the new text (prompt
    lookup; Saxena 2023). Costs no model.

    longest, shortest: of the runs of tokens that are looked for, the longest first.
    """

    def __init__(self, longest: int = 4, shortest: int = 2) -> None:
        self.lengths = range(longest, shortest - 1, -1)
        self._after: list[dict[tuple[int, ...], int]] = []  # a run -> the place behind its last occurrence
        self._read: list[int] = []  # tokens of each text that are in there

    def start(self, texts: Sequence[Sequence[int]], chunk: int) -> None:
        self._after = [{} for _ in texts]
        self._read = [0] * len(texts)

    def propose(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        return [
            self._one(i, text, count) if count else []
            for i, (text, count) in enumerate(zip(texts, counts, strict=True))
        ]

    def _one(self, row: int, text: Sequence[int], count: int) -> list[int]:
        after = self._after[row]
        for place in range(self._read[row], len(text)):  # what a token follows is known when it is there
            for length in self.lengths:
                if length <= place:
                    after[tuple(text[place - length : place])] = place
        self._read[row] = len(text)
        found = (after.get(tuple(text[len(text) - n :])) for n in self.lengths if n <= len(text))
        start = next((place for place in found if place is not None), None)
        if start is None:
            return []
        guess = list(text[start : start + count])
        while len(guess) < count:  # the run overlaps the end: what repeats goes on repeating
            guess.append(guess[len(guess) - (len(text) - start)])
        return guess


class ModelDraft:
    """What a cheaper model would say: another one, or this one with all layers linear (`linear`). It reads
    the prompts too, and every text that is kept. choose: see `Choose`; most: guesses of a call.
    """

    def __init__(self, model: BaseModel, linear: bool, most: int, choose: Choose) -> None:
        self.model, self.linear, self.most, self.choose = model, linear, most, choose
        self._prompts: list[int] = []
        self._fed: list[int] = []  # tokens of each text that the cache has seen
        self._guessed: list[list[int]] = []  # what it has seen behind them

    def start(self, texts: Sequence[Sequence[int]], chunk: int) -> None:
        if self.linear:
            with switched(self.model, []):
                self._cache = self.model.cache(len(texts))
        else:
            self._cache = self.model.cache(len(texts))
        prefill(self.model, texts, self._cache, chunk)
        self._cache.trail(self.most + 2)
        self._prompts = [len(text) for text in texts]
        self._fed = [len(text) for text in texts]
        self._guessed = [[] for _ in texts]

    def propose(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in texts]
        active = [i for i, count in enumerate(counts) if count]
        if not active:
            return guesses
        self._take_back(texts)
        for step in range(min(counts[i] for i in active)):
            # a row without a count goes through every pass too, with a token that is taken back
            news = [
                [0] if not counts[i] else guesses[i][-1:] if step else list(text[self._fed[i] :])
                for i, text in enumerate(texts)
            ]
            logits = feed(self.model, self._cache, news)
            for i, text in enumerate(texts):
                if step or not counts[i]:
                    self._guessed[i] += news[i]
                else:
                    self._fed[i] = len(text)
                if counts[i]:
                    at = len(text) - self._prompts[i] + step
                    guesses[i].append(self.choose(logits[i][-1], i, at))
        return guesses

    def _take_back(self, texts: Sequence[Sequence[int]]) -> None:
        """Of what has been guessed, only what the texts have stays in the cache."""
        back = []
        for i, text in enumerate(texts):
            right = 0
            for guess, token in zip(self._guessed[i], text[self._fed[i] :], strict=False):
                if guess != token:
                    break
                right += 1
            back.append(len(self._guessed[i]) - right)
            self._fed[i] += right
            self._guessed[i] = []
        self._cache.rewind(back)


def feed(model: BaseModel, cache: object, tokens: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
    """float32 [len(tokens[i]), V]: logits after each token of each row, at least one a row, which continue
    those in the cache.
    """
    width = max(map(len, tokens))
    padded = np.zeros((len(tokens), width), np.int32)
    mask = np.zeros((len(tokens), width), np.bool_)
    for i, row in enumerate(tokens):
        padded[i, width - len(row) :] = row
        mask[i, width - len(row) :] = True
    logits = model.logits(padded, mask=None if mask.all() else mask, cache=cache)  # type: ignore[arg-type]
    return [logits[i, width - len(row) :] for i, row in enumerate(tokens)]
