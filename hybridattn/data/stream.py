"""Text out of tokens that come one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix  # of any texts
from typing import Protocol

_REPLACEMENT = "\ufffd"  # what a decoder gives for bytes that are not (yet) a character


class Decoder(Protocol):
    """What streaming needs of a tokenizer."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class StreamDecoder:
    """Decodes tokens one at a time. The pieces make up the text that decode(after + tokens) has beyond
    decode(after), and none ends inside a character.

    Decoders treat the first token of a text in its own way (Llama 2's take its space away), so the tokens of
    the last pieces, at first those of `after`, are decoded again with the new one.
    """

    _ids: list[int]
    _shown: int
    _before: str  # the text of the tokens that have been given out

    def __init__(
        self, tokenizer: Decoder, skip_special_tokens: bool = True, after: Sequence[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._start(after)

    def put(self, token_id: int) -> str:
        """The text that this token completes, often empty within a character of several bytes."""
        self._ids.append(int(token_id))
        text = self._decode(self._ids)
        if text.endswith(_REPLACEMENT) or not text.startswith(self._before):
            return ""
        piece = text[len(self._before) :]
        if piece:
            # only the tokens of the last piece matter from here on, unless they begin within a character
            last = self._decode(self._ids[self._shown :])
            if _REPLACEMENT not in last:
                del self._ids[: self._shown]
            self._before = text if _REPLACEMENT in last else last
            self._shown = len(self._ids)
        return piece

    def finish(self) -> str:
        """The rest: bytes that never became a character, as U+FFFD. Then the decoder is as new."""
        text = self._decode(self._ids)
        known = commonprefix([text, self._before])  # noqa: RUF071 - not paths
        self._start(())
        return text[len(known) :]

    def _start(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._shown = len(self._ids)  # how many of _ids have been given out already
        # a character that `ids` leave open is shown with the tokens that close it
        self._before = self._decode(self._ids).rstrip(_REPLACEMENT)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, self._skip)
