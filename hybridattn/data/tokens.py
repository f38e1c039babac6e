"""Text becomes token windows: one flat stream of tokens, and the windows of it that are trained, scored
and evaluated on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import LARGEST, refuse
from ..errors import DataError
from ..results.equality import Comparable
from ..results.markup import box, table
from .gathered import Gathered
from .prompts import Encoder as Encoder
from .prompts import open_tokens
from .rows import encode_row, with_answers
from .text_files import log_empty

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

Tokens = npt.NDArray[np.int32]
Windows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class TokenData(Comparable):
    """A flat stream `tokens` int32 [n] and `windows` int64 [m, 2]: (start, stop) positions in it, half
    open. Whole numbers of any type that fit are taken; no other number is made one.

    `label` says what the text is ("plain", "recall", "mix", a file name); scores and reports print it.
    `weights` float32 [n], for scores and step 2: how much the prediction of each token counts (None: all
    alike), such as answers alone, or the masked tokens of a bidirectional model. `segments` int32 [n]: the
    token types of models that have them (None: all 0).
    """

    tokens: Tokens
    windows: Windows
    label: str = "plain"
    weights: npt.NDArray[np.float32] | None = None
    segments: npt.NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        tokens = np.ascontiguousarray(whole("tokens", self.tokens, LARGEST), dtype=np.int32)
        windows = np.ascontiguousarray(whole("windows", self.windows), dtype=np.int64)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "windows", windows)
        if self.weights is not None:
            weights = _numbers("weights", self.weights)
            object.__setattr__(self, "weights", weights)
            if weights.shape != tokens.shape:
                raise DataError(f"weights has shape {weights.shape}; allowed: {tokens.shape}, as tokens")
        if self.segments is not None:
            segments = np.ascontiguousarray(whole("segments", self.segments, LARGEST), dtype=np.int32)
            object.__setattr__(self, "segments", segments)
            if segments.shape != tokens.shape:
                raise DataError(f"segments has shape {segments.shape}; allowed: {tokens.shape}, as tokens")
        if tokens.ndim != 1:
            raise DataError(f"tokens has shape {tokens.shape}; allowed: [n]")
        if windows.ndim != 2 or windows.shape[1] != 2 or len(windows) == 0:
            raise DataError(f"windows has shape {windows.shape}; allowed: [m, 2] with m of at least 1")
        start, stop = windows[:, 0], windows[:, 1]
        bad = np.flatnonzero((start < 0) | (stop > len(tokens)) | (stop - start < 2))
        if len(bad):
            i = bad[0]
            raise DataError(
                f"windows[{i}] is ({start[i]}, {stop[i]}); "
                f"allowed: 2 tokens or more, within 0 to {len(tokens)}"
            )

    @classmethod
    def from_text(
        cls,
        texts: Iterable[str],
        tokenizer: Encoder,
        seq_len: int,
        max_tokens: int | None = None,
        *,
        keep_tail: bool = False,
        label: str = "plain",
    ) -> TokenData:
        """Tokenize documents, join them with the end-of-text token between, and cut windows of `seq_len`.

        Stops reading at `max_tokens`. A last window shorter than seq_len is kept when `keep_tail` says so or
        when it is the only one. Raises DataError for an empty document, or when fewer than 2 tokens come out.
        """
        _check_sizes(seq_len, max_tokens)
        eos = tokenizer.eos_token_id
        gathered = Gathered(np.int32)
        if not isinstance(texts, Iterable):
            raise DataError(f"texts is {texts!r:.80}; allowed: a text, or texts")
        for i, text in enumerate([texts] if isinstance(texts, str) else texts):
            if not isinstance(text, str):
                raise DataError(f"text {i} is {text!r:.80}; allowed: a text")
            if not text.strip():
                raise DataError(f"text {i} is empty; allowed: documents with some text")
            if i and eos is not None:
                gathered.add([eos])
            try:
                gathered.add(open_tokens(tokenizer, text))
            except DataError as error:
                raise DataError(f"text {i}: {error}") from None
            if max_tokens is not None and len(gathered) >= max_tokens:
                break
        tokens = gathered.array(max_tokens)
        if len(tokens) < 2:
            raise DataError(f"the text has {len(tokens)} tokens; allowed: 2 or more")
        return cls(tokens, cut(len(tokens), seq_len, keep_tail), label)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Any],
        tokenizer: Tokenizer,
        seq_len: int,
        max_tokens: int | None = None,
        *,
        answers_only: bool = False,
        keep_tail: bool = False,
        label: str = "rows",
    ) -> TokenData:
        """Tokens of rows that are read as they come, until there are `max_tokens`: texts, or objects with
        "text" or "messages", such as those of `datasets`, of `text_files.rows`, or your own.

        Messages go through the tokenizer's chat template. Empty rows are left out, and their number is
        logged. answers_only: `weights` are 1 on what assistants say and 0 elsewhere, for step 2 and scores;
        windows without an answer are left out, and rows have to be of messages. The rest is as in
        `from_text`. Raises DataError naming the row.
        """
        _check_sizes(seq_len, max_tokens)
        eos = tokenizer.eos_token_id
        gathered, counts, last = Gathered(np.int32), Gathered(np.float32), eos
        empty = 0
        for i, row in enumerate(rows):
            where = f"row {i}" if label == "rows" else f"{label}: row {i}"
            made, weights = encode_row(tokenizer, row, where, answers_only)
            if not made:
                empty += 1
                continue
            if eos is not None and last != eos:
                gathered.add([eos])
                counts.add([0.0])
            gathered.add(made)
            counts.add(weights)
            last = made[-1]
            if max_tokens is not None and len(gathered) >= max_tokens:
                break
        log_empty(label, empty)
        tokens = gathered.array(max_tokens)
        if len(tokens) < 2:
            raise DataError(f"the rows have {len(tokens)} tokens; allowed: 2 or more")
        windows = cut(len(tokens), seq_len, keep_tail)
        if not answers_only:
            return cls(tokens, windows, label)
        loss = counts.array(len(tokens))
        return cls(tokens, with_answers(windows, loss, seq_len), label, loss)

    @classmethod
    def concat(cls, parts: Sequence[TokenData], label: str) -> TokenData:
        """All windows of all parts over one stream. Beside weighted parts, tokens of the others count 1
        each; beside parts with segments, theirs are 0.
        """
        offsets = np.cumsum([0, *(len(p.tokens) for p in parts)])
        windows = [p.windows + offset for p, offset in zip(parts, offsets, strict=False)]
        weights = None
        if any(p.weights is not None for p in parts):
            weights = np.concatenate(
                [np.ones(len(p.tokens), np.float32) if p.weights is None else p.weights for p in parts]
            )
        segments = None
        if any(p.segments is not None for p in parts):
            segments = np.concatenate(
                [np.zeros(len(p.tokens), np.int32) if p.segments is None else p.segments for p in parts]
            )
        tokens = np.concatenate([p.tokens for p in parts])
        return cls(tokens, np.concatenate(windows), label, weights, segments)

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return f"TokenData({self._said()})"

    def _said(self) -> str:
        more = "".join(f", {name}" for name in ("weights", "segments") if getattr(self, name) is not None)
        return f"{self.label}: {len(self)} windows of up to {self.seq_len}, {self.num_tokens:,} tokens{more}"

    def _repr_html_(self) -> str:
        lengths = self.windows[:, 1] - self.windows[:, 0]
        rows = [
            ["windows", f"{len(self):,}"],
            ["tokens in windows", f"{self.num_tokens:,}"],
            ["length of a window", f"{lengths.min():,} to {lengths.max():,}"],
            ["first tokens", " ".join(map(str, self.tokens[:8])) + " .."],
        ]
        return box(self._said(), table(rows))

    @property
    def seq_len(self) -> int:
        """The longest window."""
        return int((self.windows[:, 1] - self.windows[:, 0]).max())

    @property
    def num_tokens(self) -> int:
        """Tokens inside windows."""
        return int((self.windows[:, 1] - self.windows[:, 0]).sum())

    def beyond(self, skip: int, seq_len: int) -> TokenData:
        """What follows the first `skip` tokens, in new windows of `seq_len`, those that count."""
        rest = self.tokens[skip:]
        windows = cut(len(rest), seq_len, False)
        weights = None if self.weights is None else self.weights[skip:]
        if weights is not None:
            windows = with_answers(windows, weights, seq_len)
        return TokenData(rest, windows, self.label, weights)

    def within(self, positions: int) -> TokenData:
        """Itself, when no window is longer than a model's positions; ConfigError."""
        if self.seq_len > positions:
            raise refuse("seq_len", self.seq_len, f"at most the model's {positions} positions")
        return self

    def apart(self) -> TokenData:
        """Itself, or where windows overlap a copy that has a stretch of the stream for each: what is kept by
        position, such as a teacher's states, then belongs to one window.
        """
        if overlap(self.windows) is None:
            return self
        length = self.windows[:, 1] - self.windows[:, 0]
        at = np.concatenate([np.arange(start, stop) for start, stop in self.windows])
        stop = np.cumsum(length)
        more = [None if array is None else array[at] for array in (self.weights, self.segments)]
        return TokenData(self.tokens[at], np.stack([stop - length, stop], axis=1), self.label, *more)

    def take(self, windows: slice | npt.NDArray[np.int64], label: str | None = None) -> TokenData:
        """Some of the windows, with only the stretch of the stream that they cover."""
        chosen = self.windows[windows]
        if len(chosen) == 0:
            raise DataError(
                f"windows is {windows}, none of the {len(self)} windows; allowed: a choice of 1 or more"
            )
        low, high = int(chosen[:, 0].min()), int(chosen[:, 1].max())
        weights = None if self.weights is None else self.weights[low:high]
        segments = None if self.segments is None else self.segments[low:high]
        return TokenData(self.tokens[low:high], chosen - low, label or self.label, weights, segments)

    def split(self, holdout_windows: int) -> tuple[TokenData, TokenData]:
        """(training data, held-out data): the last `holdout_windows` windows are held out, nothing of them
        is trained on.
        """
        if not 0 < holdout_windows < len(self):
            raise DataError(
                f"holdout_windows is {holdout_windows}; "
                f"allowed: 1 to {len(self) - 1}, one less than all windows"
            )
        cut_at = len(self) - holdout_windows
        return self.take(slice(0, cut_at)), self.take(slice(cut_at, None))

    def order(self, steps: int, batch: int, seed: int = 0) -> npt.NDArray[np.int64]:
        """int64 [steps, batch]: which windows each step has. Every epoch is a new permutation of all windows.

        The first steps do not depend on how many follow.
        """
        if steps < 0 or batch < 1:
            raise DataError(f"steps, batch are {steps}, {batch}; allowed: 0 or more, and 1 or more")
        epochs = -(-steps * batch // len(self))
        drawn = [np.random.default_rng([seed, epoch]).permutation(len(self)) for epoch in range(epochs)]
        index = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
        return index[: steps * batch].reshape(steps, batch)

    def batches(self, steps: int, batch: int, seed: int = 0) -> Windows:
        """int64 [steps, batch, 2]: the windows of each step, in `order`."""
        return self.windows[self.order(steps, batch, seed)]

    def fingerprint(self) -> str:
        """A digest of tokens, windows, weights and segments: equal data, equal fingerprint."""
        more = [array for array in (self.weights, self.segments) if array is not None]
        return digest(self.tokens, self.windows, *more)


def _check_sizes(seq_len: int, max_tokens: int | None) -> None:
    if seq_len < 2:
        raise DataError(f"seq_len is {seq_len}; allowed: 2 or more")
    if max_tokens is not None and max_tokens < 2:
        raise DataError(f"max_tokens is {max_tokens}; allowed: 2 or more")


def whole(name: str, values: Any, high: int | None = None) -> npt.NDArray[np.generic]:
    """`values` as an array of whole numbers from 0 to `high` (None: of any), or DataError: no conversion that
    changes a number."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise DataError(f"{name} has dtype {array.dtype}; allowed: whole numbers")
    if array.size and high is not None and not (array.min() >= 0 and array.max() <= high):
        bad = array[(array < 0) | (array > high)][0]
        raise DataError(f"{name} holds {bad}; allowed: 0 to {high}")
    return array


def _numbers(name: str, values: Any) -> npt.NDArray[np.float32]:
    """`values` as finite float32, or DataError."""
    try:
        array = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{name} is {values!r:.80}; allowed: numbers") from None
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds a number that is not finite; allowed: finite numbers")
    return array


def cut(num_tokens: int, seq_len: int, keep_tail: bool) -> Windows:
    """int64 [m, 2]: consecutive windows of `seq_len`, see `TokenData.from_text`. A tail of one token is
    never kept.
    """
    start = np.arange(0, num_tokens, seq_len, dtype=np.int64)
    windows = np.stack([start, np.minimum(start + seq_len, num_tokens)], axis=1)
    length = windows[:, 1] - windows[:, 0]
    keep = length >= 2 if keep_tail or num_tokens < seq_len else length == seq_len
    return windows[keep]


def overlap(windows: Windows) -> tuple[list[int], list[int]] | None:
    """Two unlike ones of `windows` [m, 2] that share a position, or None."""
    ordered = np.unique(windows, axis=0)
    both = np.flatnonzero(ordered[1:, 0] < ordered[:-1, 1])
    return (ordered[both[0]].tolist(), ordered[both[0] + 1].tolist()) if len(both) else None


def slices(windows: Windows, tokens: int) -> list[Windows]:
    """`windows` in order, in groups of about `tokens` tokens, for work with progress between the groups."""
    reached = np.cumsum(windows[:, 1] - windows[:, 0])
    group = np.maximum(reached - 1, 0) // tokens
    return [np.ascontiguousarray(part) for part in np.split(windows, np.flatnonzero(np.diff(group)) + 1)]


def digest(*arrays: npt.NDArray[np.generic]) -> str:
    """Hex digest of arrays: their types, shapes and bytes."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return state.hexdigest()
