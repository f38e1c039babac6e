"""Which text is trained on, scored on and evaluated on: parts of one source that have nothing in common.

A tenth of the training text, its first pieces, is set aside: a third of that for layer scores, the rest for
evaluation where no held-out text is given. Steps 1 and 2 read what follows, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..files import atomic_write, file_digest
from ..reading import read_json
from .hub import TEXTS, fetch_text
from .pieces import Pieces, whole_texts
from .text_files import Row, rows
from .tokens import TokenData

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

ALIGNED = "align.json"  # beside a probe: the text it was aligned on
ASIDE = 0.1  # share of the pieces set aside


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
    """The parts of a training text and, where one is given, a held-out text of its own. Neither has to fit
    into memory: what is long is read anew for every part.

    answers_only: rows are conversations, none of which is cut, and what assistants say is all that counts.
    """

    train: Path
    heldout: Path | None = None
    answers_only: bool = False

    _kept: dict[bool, dict[str, Iterable[str]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def regions(self) -> dict[str, Iterable[str]]:
        """`regions_of` texts that hold no messages."""
        return self.regions_of(None)

    def regions_of(self, tokenizer: Tokenizer | None) -> dict[str, Iterable[str]]:
        """Documents for "training", "scoring" and "held-out"; the same whatever the token budgets are. The
        tokenizer's chat template writes rows of messages.
        """
        key = tokenizer is not None
        if key not in self._kept:
            pieces = Pieces(self.train, tokenizer)
            scoring, aside = self._set_aside(len(pieces), f"{pieces.characters} characters")
            # a text of its own is read whole, document by document, for long windows
            heldout = whole_texts(self.heldout, tokenizer) if self.heldout else pieces.part(scoring, aside)
            self._kept[key] = {
                "scoring": pieces.part(0, scoring),
                "held-out": heldout,
                "training": pieces.part(aside),
            }
        return self._kept[key]

    def _set_aside(self, pieces: int, amount: str) -> tuple[int, int]:
        """How many of the first pieces are for scoring, and for scoring and evaluation together."""
        aside = max(2, round(ASIDE * pieces))
        if pieces <= aside:
            raise DataError(
                f"text.train {self.train} has {amount}, too few to set a tenth "
                "of them aside for scoring and evaluation; give more text"
            )
        return max(1, aside // 3), aside

    @cached_property
    def _conversations(self) -> dict[str, tuple[int, int | None]]:
        """Where the rows of a part begin and end, of those that are not empty."""
        count = sum(1 for _ in _filled(self.train))
        scoring, aside = self._set_aside(count, f"{count} conversations")
        return {"scoring": (0, scoring), "held-out": (scoring, aside), "training": (aside, None)}

    def _rows(self, region: str) -> Iterator[Row]:
        if region == "held-out" and self.heldout:
            return _filled(self.heldout)
        return islice(_filled(self.train), *self._conversations[region])

    def read(self, region: str, tokenizer: Tokenizer, wanted: int, seq_len: int) -> TokenData:
        """Windows of `seq_len` of the first `wanted` tokens; DataError when there are too few for one."""
        if self.answers_only:
            data = self._answers(region, tokenizer, wanted, seq_len)
        else:
            texts = self.regions_of(tokenizer)[region]
            data = TokenData.from_text(texts, tokenizer, seq_len, wanted, label=self.train.name)
        if len(data.tokens) < seq_len:
            raise DataError(
                f"the {region} text has {len(data.tokens)} tokens, too few for one sequence of {seq_len}; "
                "give more text or a shorter length"
            )
        return data

    def _answers(self, region: str, tokenizer: Tokenizer, wanted: int, seq_len: int) -> TokenData:
        """As many windows that hold an answer as `wanted` tokens make; others are passed over."""
        limit = wanted
        while True:
            data = TokenData.from_rows(
                self._rows(region), tokenizer, seq_len, limit, answers_only=True, label=self.train.name
            )
            if data.num_tokens >= wanted or len(data.tokens) < limit:
                return data.take(slice(0, max(1, wanted // seq_len)))
            limit *= 2

    def training(self, tokenizer: Tokenizer, tokens: int, seq_len: int, skip: int = 0) -> TokenData:
        """Windows for training. An earlier step's `skip` tokens are left out when enough text follows."""
        data = self.read("training", tokenizer, skip + tokens, seq_len)
        if len(data.tokens) - skip < max(tokens, seq_len):
            return data
        return data.beyond(skip, seq_len)


def _filled(path: Path) -> Iterator[Row]:
    """The rows of a file or folder that are not empty."""
    return (row for row in rows(path) if isinstance(row, str) or row.get("messages") or row.get("text"))


def note_aligned(probe: str | Path, texts: Texts, tokens: int) -> None:
    """Write beside a probe which text step 1 has read, and how much of it."""
    note = {"text": file_digest(texts.train), "tokens": tokens, "answers_only": texts.answers_only}
    atomic_write(Path(probe) / ALIGNED, json.dumps(note) + "\n")


def aligned_tokens(probe: str | Path, texts: Texts) -> int:
    """How many tokens of this training text step 1 has read already; 0 for a probe that does not say, or that
    has read it in another way.
    """
    try:
        note = read_json(Path(probe) / ALIGNED, DataError)
    except (OSError, DataError):
        return 0
    if not isinstance(note, dict) or type(note.get("tokens")) is not int or note["tokens"] < 0:
        return 0
    same = note.get("answers_only", False) == texts.answers_only and note.get("text") == file_digest(
        texts.train
    )
    return note["tokens"] if same else 0


def same_text(a: Path, b: Path) -> bool:
    """Whether two sources hold the same documents."""
    return a.resolve() == b.resolve() or (a.is_file() and b.is_file() and file_digest(a) == file_digest(b))
