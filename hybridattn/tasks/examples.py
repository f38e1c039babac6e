"""Tokenised sequences with labels, as one stream without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import LARGEST
from ..data.tokens import TokenData, Tokens, Windows
from ..errors import DataError
from ..families.config import TaskHead


@dataclass(frozen=True)
class Examples:
    """`data`: the sequences, one window each, with their segments if any, for `align`, `score` and `distill`;
    labels as `of` takes them.
    """

    data: TokenData
    labels: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.labels is None:
            return
        labels = np.asarray(self.labels)
        object.__setattr__(self, "labels", labels)
        if labels.ndim not in (1, 2) or len(labels) != len(self.data):
            raise DataError(
                f"labels has shape {labels.shape}; allowed: one for each of {len(self.data)} sequences"
            )

    @classmethod
    def of(
        cls,
        sequences: Sequence[npt.ArrayLike],
        labels: npt.ArrayLike | None = None,
        segments: Sequence[npt.ArrayLike] | None = None,
        label: str = "task",
    ) -> Examples:
        """Examples of m sequences of token ids, each of 2 or more, special tokens included.

        labels: ints [m] of classes, numbers [m] or [m, k] of values, or ints [m, 2] of spans, the first and
        last token of each, counted within its sequence. segments: token types, as `sequences`. label: what
        scores and reports call the text. Raises DataError naming the sequence.
        """
        tokens, windows = flatten(sequences)
        types = None
        if segments is not None:
            if len(segments) != len(sequences):
                raise DataError(f"segments has {len(segments)} sequences; allowed: {len(sequences)}")
            arrays = [np.asarray(each) for each in segments]
            for i, (array, (start, stop)) in enumerate(zip(arrays, windows, strict=True)):
                if array.shape != (stop - start,) or array.dtype.kind not in "iu":
                    raise DataError(
                        f"segments of sequence {i} have shape {array.shape} and dtype {array.dtype}; "
                        f"allowed: integers, one for each of its {stop - start} tokens"
                    )
            types = np.concatenate(arrays).astype(np.int32)
        given = None if labels is None else np.asarray(labels)
        return cls(TokenData(tokens, windows, label, segments=types), given)

    def __len__(self) -> int:
        return len(self.data)

    def take(self, chosen: slice | npt.NDArray[np.int64]) -> Examples:
        """Some of the examples, in the order of `chosen`."""
        sequences = [self.data.tokens[start:stop] for start, stop in self.data.windows[chosen]]
        if not sequences:
            raise DataError(f"chosen is {chosen}, none of the {len(self)} examples; allowed: 1 or more")
        types = None
        if self.data.segments is not None:
            types = [self.data.segments[start:stop] for start, stop in self.data.windows[chosen]]
        return Examples.of(
            sequences, None if self.labels is None else self.labels[chosen], types, self.data.label
        )

    def targets(self, task: TaskHead) -> npt.NDArray[Any]:
        """The labels as the trainer takes them: int32 [m, 1] classes, float32 [m, num_labels] values, int32
        [m, 2] spans. DataError naming the first example whose label does not fit the task.
        """
        if self.labels is None:
            raise DataError(f"labels is None; allowed for task {task.kind!r}: one for each sequence")
        labels, count = self.labels, task.num_labels
        width = 1 if task.kind == "classify" else count
        table = labels[:, None] if labels.ndim == 1 else labels
        if table.shape[1] != width or table.dtype.kind not in ("iuf" if task.kind == "regress" else "iu"):
            raise DataError(
                f"labels has shape {labels.shape} and dtype {labels.dtype}; "
                f"allowed for task {task.kind!r} of num_labels {count}: "
                f"{'numbers' if task.kind == 'regress' else 'integers'}, {width} for each sequence"
            )
        length = self.data.windows[:, 1] - self.data.windows[:, 0]
        if task.kind == "classify":
            wrong, allowed = (table[:, 0] < 0) | (table[:, 0] >= count), f"0 to {count - 1}"
        elif task.kind == "regress":
            table = table.astype(np.float32)
            wrong, allowed = ~np.isfinite(table).all(axis=1), "finite numbers"
        else:
            first, last = table[:, 0], table[:, 1]
            wrong = (first < 0) | (first > last) | (last >= length)
            allowed = "0 <= first <= last < the sequence's {} tokens"
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"label of sequence {i} is {labels[i]}; allowed: {allowed.format(length[i])}")
        return table if task.kind == "regress" else table.astype(np.int32)


def flatten(sequences: Sequence[npt.ArrayLike]) -> tuple[Tokens, Windows]:
    """(tokens int32 [n], windows int64 [m, 2]) of sequences one after the other."""
    if len(sequences) == 0:
        raise DataError("sequences is empty; allowed: 1 or more")
    arrays = [np.asarray(each) for each in sequences]
    for i, array in enumerate(arrays):
        if array.ndim != 1 or len(array) < 2 or array.dtype.kind not in "iu":
            raise DataError(
                f"sequence {i} has shape {array.shape} and dtype {array.dtype}; allowed: 2 or more token ids"
            )
        if len(array) and not (int(array.min()) >= 0 and int(array.max()) <= LARGEST):
            raise DataError(
                f"sequence {i} holds {int(array.min())} to {int(array.max())}; allowed: 0 to {LARGEST}"
            )
    ends = np.cumsum([len(array) for array in arrays])
    windows = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int64)
    return np.concatenate(arrays).astype(np.int32), windows
