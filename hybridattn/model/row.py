"""One sequence that is being continued: its new tokens, their text, and whether a stop has been met."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.tokenizer import Tokenizer


class Row:
    """prompt: token ids. stop_tokens end the row and are not among its tokens; a text of `stop_texts` ends it
    where its new text holds it, and is cut off.

    The text is what decode(prompt + tokens) has beyond decode(prompt). Special tokens are not in it; where a
    stop text holds one, stops are looked for in the text with special tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        prompt: list[int],
        stop_tokens: frozenset[int],
        stop_texts: Sequence[str],
    ) -> None:
        self.prompt = prompt
        self.stop_texts = tuple(stop_texts)
        self.tokens: list[int] = []
        self.text = ""
        self.safe = 0  # characters of `text` that no stop text can still take back
        self.done = False
        self._cut = False  # done because of a stop text
        self._decoder = self._all = None
        if tokenizer is not None:
            special = tokenizer.special_texts() if self.stop_texts else frozenset()
            whole = [tokenizer.token_to_id(stop) for stop in self.stop_texts if stop in special]
            stop_tokens = stop_tokens.union(number for number in whole if number is not None)
            self._decoder = tokenizer.stream(after=prompt)
            if any(text in stop for stop in self.stop_texts for text in special):
                self._all = tokenizer.stream(skip_special_tokens=False, after=prompt)
        self._stop_tokens = stop_tokens
        self._seen = ""  # the text that stops are looked for in
        self._cleared = 0  # characters of it that cannot begin a stop any more
        self._places: list[tuple[int, int]] = [(0, 0)]  # of each piece in _seen and in text

    def put(self, token: int) -> None:
        """Take one more token."""
        if token in self._stop_tokens:
            self.done = True
            return
        self.tokens.append(token)
        if self._decoder is not None:
            piece = self._decoder.put(token)
            self._add(piece, piece if self._all is None else self._all.put(token))

    def finish(self) -> str:
        """The whole text, after the last token."""
        if self._decoder is not None and not self._cut:
            piece = self._decoder.finish()
            self._add(piece, piece if self._all is None else self._all.finish())
        self.safe = len(self.text)
        return self.text

    def _add(self, piece: str, seen: str) -> None:
        self.text += piece
        self._seen += seen
        self._places.append((len(self._seen), len(self.text)))
        found = [at for at in (self._seen.find(stop, self._cleared) for stop in self.stop_texts) if at >= 0]
        if found:
            self.text = self.text[: self._place(min(found))]
            self.safe = len(self.text)
            self.done = self._cut = True
            return
        held = max((_overlap(self._seen, stop) for stop in self.stop_texts), default=0)
        self._cleared = len(self._seen) - held
        self.safe = self._place(self._cleared)

    def _place(self, seen: int) -> int:
        """The place in `text` of a place in `_seen`: within a special token, where it would stand."""
        i = min(bisect_right(self._places, seen, key=lambda place: place[0]), len(self._places) - 1)
        (start, text), (_, stop) = self._places[i - 1], self._places[i]
        return min(text + seen - start, stop)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`, less than all of it."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
