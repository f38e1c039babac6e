"""Predictions beside their scores: a TSV file as GLUE takes submissions, and JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import atomic_write, write_sheet
from .tasks import Split, Task


def write_predictions(
    folder: str | os.PathLike[str],
    split: Split,
    predictions: Sequence[int | float],
    scores: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    choice_scores: Sequence[Sequence[float]] | None = None,
) -> tuple[Path, Path]:
    """Write `<TASK>.tsv` (columns index and prediction, as GLUE's submissions: names of labels for MNLI, QNLI
    and RTE, else numbers) and `<TASK>.json` (task, split, skipped rows, settings, scores and one row an
    example with id, prediction, label and, where given, the score of every choice); return both paths.

    Raises DataError for a prediction that is no label, or for a wrong count.
    """
    task = split.task
    if len(predictions) != len(split):
        raise DataError(f"predictions has {len(predictions)} rows; allowed: {len(split)}, as the split")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    shown = [_written(task, i, value) for i, value in enumerate(predictions)]
    rows: list[dict[str, Any]] = []
    for i, (example, value) in enumerate(zip(split.examples, predictions, strict=True)):
        row: dict[str, Any] = {"id": example.id, "prediction": _number(task, value), "label": example.label}
        if choice_scores is not None:
            row["choice_scores"] = [float(score) for score in choice_scores[i]]
        rows.append(row)
    name = task.submission or task.name
    lines = [f"{example.id}\t{text}\n" for example, text in zip(split.examples, shown, strict=True)]
    tsv, sheet = target / f"{name}.tsv", target / f"{name}.json"
    atomic_write(tsv, "index\tprediction\n" + "".join(lines))
    content = {
        "task": task.name,
        "split": split.name,
        "skipped": split.skipped,
        "labels": list(task.labels),
        "settings": dict(settings or {}),
        "scores": dict(scores or {}),
        "predictions": rows,
    }
    write_sheet(sheet, content)
    return tsv, sheet


def _number(task: Task, value: int | float) -> int | float:
    return float(value) if task.regression else int(value)


def _written(task: Task, row: int, value: int | float) -> str:
    if task.regression:
        if not np.isfinite(value):
            raise DataError(f"prediction {row} is {value}; allowed: a number")
        return f"{float(value):.6g}"
    if int(value) != value or not 0 <= value < task.num_labels:
        raise DataError(f"prediction {row} is {value}; allowed: 0 to {task.num_labels - 1}")
    return (task.written or task.labels)[int(value)]
