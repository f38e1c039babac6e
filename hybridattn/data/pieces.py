"""A text in pieces: documents, the long ones cut. What is too long for memory is read anew each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .text_files import documents, log_empty

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

PIECE = 20_000  # characters: longer documents are cut at blank lines, so that a tenth can be set aside
IN_MEMORY = 1 << 24  # characters of texts that are kept
LARGE = 1 << 22  # characters: documents of more than half as many again are tokenized in parts


@dataclass(frozen=True)
class Reread:
    """Texts that are read anew each time; how many, where that is known."""

    make: Callable[[], Iterator[str]]
    count: int | None = None

    def __iter__(self) -> Iterator[str]:
        return self.make()

    def __len__(self) -> int:
        return sum(1 for _ in self.make()) if self.count is None else self.count


class Pieces:
    """The pieces of the documents of a file or folder, in order. They are about PIECE characters long, less
    when there is little text. DataError when there is none.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer | None = None) -> None:
        self._path, self._tokenizer = path, tokenizer
        kept: list[str] | None = []
        self.characters = self._count = empty = 0
        for document in documents(path, tokenizer):
            parts, length, solid = [], 0, 0
            for piece in cut_text(document, PIECE):
                length += len(piece)
                solid += bool(piece.strip())
                if kept is not None:
                    parts.append(piece)
                    if self.characters + length > IN_MEMORY:
                        kept, parts = None, []
            if not solid:
                empty += 1
                continue
            self.characters += length
            self._count += solid
            if kept is not None:
                kept.append("".join(parts))
        if not self.characters:
            raise DataError(f"{path}: holds no text")
        log_empty(str(path), empty)
        self._kept = None if kept is None else cut_documents(kept)

    def __len__(self) -> int:
        return self._count if self._kept is None else len(self._kept)

    def part(self, start: int, stop: int | None = None) -> Sequence[str] | Reread:
        """The pieces from `start` to `stop`."""
        if self._kept is not None:
            return self._kept[start:stop]
        last = self._count if stop is None else min(stop, self._count)
        return Reread(lambda: islice(self._anew(), start, last), max(0, last - start))

    def _anew(self) -> Iterator[str]:
        for document in documents(self._path, self._tokenizer):
            yield from (piece for piece in cut_text(document, PIECE) if piece.strip())


def whole_texts(
    path: Path, tokenizer: Tokenizer | None = None, size: int | None = LARGE
) -> list[str] | Reread:
    """The documents of a file or folder that are not empty, in parts of about `size` characters where they
    are longer (None: whole). DataError when there are none.
    """

    def anew() -> Iterator[str]:
        empty = 0
        for document in documents(path, tokenizer):
            found = False
            for text in ["".join(document)] if size is None else cut_text(document, size):
                if text.strip():
                    found = True
                    yield text
            empty += not found
        log_empty(str(path), empty)

    kept, characters = [], 0
    for text in anew():
        kept.append(text)
        characters += len(text)
        if characters > IN_MEMORY:
            return Reread(anew)
    if not kept:
        raise DataError(f"{path}: holds no text")
    return kept


def cut_documents(texts: list[str]) -> list[str]:
    """Documents, the long ones in pieces of about PIECE characters (less when there is little text)."""
    size = min(PIECE, max(200, sum(map(len, texts)) // 30))
    return [piece for text in texts for piece in cut_text([text], size) if piece.strip()]


def cut_text(chunks: Iterable[str], size: int) -> Iterator[str]:
    """Pieces of a text that comes in chunks, which joined are the text, cut where a paragraph, a line, a
    sentence or a word ends. Of the chunks no more is held than the next piece takes.
    """
    held = ""
    for chunk in chunks:
        held, start = held + chunk, 0
        while len(held) - start > 1.5 * size:
            stop = start + size
            for mark in ("\n\n", "\n", ". ", " "):
                found = held.find(mark, stop, stop + size // 2)
                if found >= 0:
                    stop = found + len(mark)
                    break
            yield held[start:stop]
            start = stop
        held = held[start:]
    yield held
