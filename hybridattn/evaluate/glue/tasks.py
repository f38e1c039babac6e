"""What a task is: its labels, its metrics, the columns of its files. The table of GLUE's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import refuse
from ...errors import DataError


@dataclass(frozen=True)
class Example:
    """One example. text_b: the second text of a pair task, else None. label: an index of the task's labels,
    a number of a regression task, or None where it is kept secret (test splits).
    """

    id: str
    text_a: str
    text_b: str | None
    label: int | float | None


@dataclass(frozen=True)
class Task:
    """labels: names by index, empty for regression. metrics: names that `metrics.evaluate` knows, in GLUE's
    order. text_a, text_b, label: columns of the training and validation files (text_b None: one text).
    files: split -> file name. header: column names, for files without a header line. written: labels as
    files write them, where these are not the names (QQP writes 0 and 1). skips_broken: rows with a wrong
    number of columns are known of this task's labelled files, and are counted instead of refused.
    """

    name: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    text_a: str = "sentence1"
    text_b: str | None = "sentence2"
    label: str = "label"
    files: dict[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    skips_broken: bool = False
    submission: str = ""

    @property
    def regression(self) -> bool:
        """Labels are numbers."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Outputs of a classification head; 1 for regression."""
        return len(self.labels) or 1

    def check(self, name: str, values: Sequence[int | float] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """`values` as an array, or DataError: whole numbers below num_labels, of a regression finite ones."""
        allowed = "finite numbers" if self.regression else f"whole numbers from 0 to {self.num_labels - 1}"
        try:
            given = np.asarray(values)
        except ValueError:  # lists of unlike lengths
            given = np.empty(0, np.object_)
        if given.ndim != 1 or given.dtype.kind not in "biuf":
            raise DataError(
                f"{name} has shape {given.shape} and dtype {given.dtype}; allowed: a list of {allowed}"
            )
        array = given.astype(np.float64)
        wrong = ~np.isfinite(array)
        if not self.regression:
            wrong |= (array != np.floor(array)) | (array < 0) | (array >= self.num_labels)
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"{name}[{i}] is {values[i]}; allowed: {allowed}")
        return array


@dataclass(frozen=True)
class Split:
    """Examples of one split of a task. skipped: rows of the file that are no examples (see `Task`)."""

    task: Task
    name: str
    examples: list[Example]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def labels(self) -> list[int | float]:
        """All labels. DataError for a split that has none."""
        found = [example.label for example in self.examples if example.label is not None]
        if len(found) != len(self):
            raise DataError(
                f"labels of {self.task.name} {self.name} are secret; allowed: a split with labels"
            )
        return found

    def take(self, count: int | None) -> Split:
        """The first `count` examples; all for None."""
        return Split(self.task, self.name, self.examples[:count], self.skipped)


def _files(validation: str = "dev.tsv", test: str = "test.tsv", train: str = "train.tsv") -> dict[str, str]:
    return {"train": train, "validation": validation, "test": test}


_BINARY = ("0", "1")
_NLI = ("entailment", "neutral", "contradiction")
_TWO_WAY = ("entailment", "not_entailment")


def _mnli(name: str, kind: str, submission: str) -> Task:
    files = _files(f"dev_{kind}.tsv", f"test_{kind}.tsv")
    return Task(name, _NLI, ("accuracy",), label="gold_label", files=files, submission=submission)


_ALL = (
    Task("CoLA", ("unacceptable", "acceptable"), ("matthews",), "sentence", None, files=_files(),
         header=("source", "label", "mark", "sentence"), written=_BINARY),
    Task("SST-2", ("negative", "positive"), ("accuracy",), "sentence", None, files=_files(), written=_BINARY),
    Task("MRPC", ("not_equivalent", "equivalent"), ("f1", "accuracy"), "#1 String", "#2 String", "Quality",
         _files(), written=_BINARY),
    Task("STS-B", (), ("pearson", "spearman"), label="score", files=_files()),
    Task("QQP", ("not_duplicate", "duplicate"), ("f1", "accuracy"), "question1", "question2", "is_duplicate",
         _files(), written=_BINARY, skips_broken=True),
    _mnli("MNLI", "matched", "MNLI-m"),
    _mnli("MNLI-mm", "mismatched", "MNLI-mm"),
    Task("QNLI", _TWO_WAY, ("accuracy",), "question", "sentence", files=_files()),
    Task("RTE", _TWO_WAY, ("accuracy",), files=_files()),
    Task("WNLI", ("not_entailment", "entailment"), ("accuracy",), files=_files(), written=_BINARY),
)  # fmt: skip
TASKS = {task.name: task for task in _ALL}


def task_named(name: str, tasks: Sequence[Task] = _ALL) -> Task:
    """The task of this name, whatever its case and punctuation: "SST-2", "sst2". ConfigError for others."""
    plain = "".join(filter(str.isalnum, name)).lower()
    for task in tasks:
        known = ("".join(filter(str.isalnum, name)).lower() for name in (task.name, task.submission))
        if plain and plain in known:
            return task
    raise refuse("task", name, ", ".join(task.name for task in tasks))
