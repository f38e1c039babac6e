"""Which text is trained on, scored on and evaluated on: parts of one source that have nothing in common.

A tenth of the training text, its first pieces, is set aside: a third of that for layer scores, the rest for
evaluation where no held-out text is given. Steps 1 and 2 read what follows, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..files import atomic_write, file_digest
from ..reading import read_json
from .hub import TEXTS, fetch_text
from .text_files import load_text
from .tokens import TokenData, cut

if TYPE_CHECKING:
    from .tokenizer import Tokenizer
    from .tokens import TokenData

ALIGNED = "align.json"  # beside a probe: the text it was aligned on
ASIDE = 0.1  # share of the pieces set aside
PIECE = 20_000  # characters: longer documents are cut at blank lines, so that a tenth can be set aside


def locate(source: str, key: str, heldout: bool = False) -> Path:
    """The file or folder of a text; a built-in name stands for its training or held-out part, fetched when
    need be. DataError naming `key` when there is none.
    """
    if not source:
        raise DataError(f"{key} is ''; allowed: a file or folder of text, or {' or '.join(TEXTS)}")
    path = Path(source)
    if not path.exists() and source in TEXTS:
        return fetch_text(source)[1 if heldout else 0]
    if not path.exists():
        raise DataError(
            f"{key} {source!r} does not exist; give a .txt, .txt.gz, .jsonl or .parquet file, or a folder "
            "of them, or " + " or ".join(f'"{name}"' for name in TEXTS)
        )
    return path


@dataclass(frozen=True)
class Texts:
    """The parts of a training text and, where one is given, a held-out text of its own."""

    train: Path
    heldout: Path | None = None

    _kept: dict[bool, dict[str, list[str]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def regions(self) -> dict[str, list[str]]:
        """`regions_of` texts that hold no messages."""
        return self.regions_of(None)

    def regions_of(self, tokenizer: Tokenizer | None) -> dict[str, list[str]]:
        """Documents for "training", "scoring" and "held-out"; the same whatever the token budgets are. The
        tokenizer's chat template writes rows of messages.
        """
        key = tokenizer is not None
        if key not in self._kept:
            self._kept[key] = self._parts(tokenizer)
        return self._kept[key]

    def _parts(self, tokenizer: Tokenizer | None) -> dict[str, list[str]]:
        pieces = cut_documents(load_text(self.train, tokenizer))
        aside = max(2, round(ASIDE * len(pieces)))
        if len(pieces) <= aside:
            raise DataError(
                f"text.train {self.train} has {sum(map(len, pieces))} characters, too few to set a tenth "
                "of them aside for scoring and evaluation; give more text"
            )
        scoring = max(1, aside // 3)
        # a text of its own is read whole, document by document, for long windows
        heldout = load_text(self.heldout, tokenizer) if self.heldout else pieces[scoring:aside]
        return {"scoring": pieces[:scoring], "held-out": heldout, "training": pieces[aside:]}

    def read(self, region: str, tokenizer: Tokenizer, wanted: int, seq_len: int) -> TokenData:
        """Windows of `seq_len` of the first `wanted` tokens; DataError when there are too few for one."""
        data = TokenData.from_text(
            self.regions_of(tokenizer)[region], tokenizer, seq_len, wanted, label=self.train.name
        )
        if len(data.tokens) < seq_len:
            raise DataError(
                f"the {region} text has {len(data.tokens)} tokens, too few for one sequence of {seq_len}; "
                "give more text or a shorter length"
            )
        return data

    def training(self, tokenizer: Tokenizer, tokens: int, seq_len: int, skip: int = 0) -> TokenData:
        """Windows for training. An earlier step's `skip` tokens are left out when enough text follows."""
        data = self.read("training", tokenizer, skip + tokens, seq_len)
        rest = data.tokens[skip:]
        if len(rest) < max(tokens, seq_len):
            return data
        return TokenData(rest, cut(len(rest), seq_len, False), data.label)


def note_aligned(probe: str | Path, texts: Texts, tokens: int) -> None:
    """Write beside a probe which text step 1 has read, and how much of it."""
    note = {"text": file_digest(texts.train), "tokens": tokens}
    atomic_write(Path(probe) / ALIGNED, json.dumps(note) + "\n")


def aligned_tokens(probe: str | Path, texts: Texts) -> int:
    """How many tokens of this training text step 1 has read already; 0 for a probe that does not say."""
    try:
        note = read_json(Path(probe) / ALIGNED, DataError)
    except (OSError, DataError):
        return 0
    if not isinstance(note, dict) or type(note.get("tokens")) is not int or note["tokens"] < 0:
        return 0
    return note["tokens"] if note.get("text") == file_digest(texts.train) else 0


def same_text(a: Path, b: Path) -> bool:
    """Whether two sources hold the same documents."""
    return a.resolve() == b.resolve() or (a.is_file() and b.is_file() and file_digest(a) == file_digest(b))


def cut_documents(texts: list[str]) -> list[str]:
    """Documents, the long ones in pieces of about PIECE characters (less when there is little text)."""
    size = min(PIECE, max(200, sum(map(len, texts)) // 30))
    return [piece for text in texts for piece in _cut(text, size) if piece.strip()]


def _cut(text: str, size: int) -> Iterator[str]:
    """Pieces of a text that joined are the text, cut where a paragraph, a line, a sentence or a word ends."""
    start = 0
    while len(text) - start > 1.5 * size:
        stop = start + size
        for mark in ("\n\n", "\n", ". ", " "):
            found = text.find(mark, stop, stop + size // 2)
            if found >= 0:
                stop = found + len(mark)
                break
        yield text[start:stop]
        start = stop
    yield text[start:]
