"""Several tokens in one pass: a draft guesses what comes next, the model reads all guesses at once, and
those that it would have chosen itself stay (speculative decoding; Leviathan, Kalman and Matias 2023, arXiv
2211.17192).

Every token is chosen from the model's own logits, with the draw that its place has, and the logits of several
tokens are bit for bit those of one after the other. So the text is that of plain decoding, greedy or
sampled, and a guess counts exactly when it is that token: of a draft that names one token, as likely as in
rejection sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .drafts import Draft, feed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._core import Cache
    from .base import BaseModel
    from .row import Row

Pick = Callable[["npt.NDArray[np.float32]", int], int]  # (logits [V], row) -> its next token

MOST_ROWS = 16  # of a pass whose rows have the bits of single ones


@dataclass
class Counts:
    """passes of the model after the prompt, tokens guessed, and guesses that stayed."""

    passes: int = 0
    guessed: int = 0
    accepted: int = 0


def room(speculative: int, batch: int) -> int:
    """Guesses a row and pass: at most `speculative`, and no more than passes of exact bits have room for."""
    return max(0, min(speculative, MOST_ROWS // batch - 1))


class Speculation:
    """Rows whose prompts are in the cache, and how they go on.

    most: guesses a row and pass, at least 1. A row tries as many as have stayed the last time, twice as
    many when all have. pick: the model's choice, called once for every token of a row, in order.
    """

    def __init__(self, model: BaseModel, rows: Sequence[Row], cache: Cache, most: int, pick: Pick) -> None:
        self.model, self.rows, self.cache, self.most, self.pick = model, rows, cache, most, pick
        self.texts = [list(row.prompt) for row in rows]
        self.counts = Counts()
        self._tries = [min(most, 2)] * len(rows)
        cache.trail(most + 1)

    def steps(self, logits: npt.NDArray[np.float32], draft: Draft, max_new_tokens: int) -> Iterator[None]:
        """From the logits [B, V] after the prompts to the ends of all rows; yields after every pass."""
        for i in range(len(self.rows)):
            self._choose(i, logits[i])
        yield
        while True:
            left = [self._left(i, max_new_tokens) for i in range(len(self.rows))]
            if not any(left):
                return
            guesses = draft.propose(
                self.texts, [min(tries, max(0, n - 1)) for tries, n in zip(self._tries, left, strict=True)]
            )
            # a row that is over goes on with a token that is taken back
            news = [[text[-1], *guesses[i]] if left[i] else [0] for i, text in enumerate(self.texts)]
            found = feed(self.model, self.cache, news)
            self.counts.passes += 1
            self.cache.rewind(
                [
                    len(guesses[i]) - self._read(i, guesses[i], found[i]) if left[i] else 1
                    for i in range(len(self.rows))
                ]
            )
            yield

    def _left(self, i: int, max_new_tokens: int) -> int:
        row = self.rows[i]
        return 0 if row.done else max_new_tokens - (len(self.texts[i]) - len(row.prompt))

    def _choose(self, i: int, logits: npt.NDArray[np.float32]) -> int:
        token = self.pick(logits, i)
        self.rows[i].put(token)
        self.texts[i].append(token)
        return token

    def _read(self, i: int, guesses: Sequence[int], logits: npt.NDArray[np.float32]) -> int:
        """Takes the model's choices [len(guesses) + 1, V] while they are the guesses; how many are."""
        right = 0
        while self._choose(i, logits[right]) == (guesses[right] if right < len(guesses) else None):
            right += 1
            if self.rows[i].done:
                break
        if guesses:
            self._tries[i] = min(self.most, 2 * right) if right == len(guesses) else max(1, right)
        self.counts.guessed += len(guesses)
        self.counts.accepted += right
        return right
