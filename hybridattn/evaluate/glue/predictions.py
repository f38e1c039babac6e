"""Predictions beside their scores: a TSV file as GLUE takes submissions, and JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import atomic_write, write_sheet
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

    Raises DataError for a prediction that is no label, or for a wrong count of these or of `choice_scores`.
    """
    task = split.task
    if len(predictions) != len(split):
        raise DataError(f"predictions has {len(predictions)} rows; allowed: {len(split)}, as the split")
    if choice_scores is not None and len(choice_scores) != len(split):
        raise DataError(f"choice_scores has {len(choice_scores)} rows; allowed: {len(split)}, as the split")
    values = task.check("predictions", predictions).tolist()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for i, (example, value) in enumerate(zip(split.examples, values, strict=True)):
        row: dict[str, Any] = {
            "id": example.id,
            "prediction": value if task.regression else int(value),
            "label": example.label,
        }
        if choice_scores is not None:
            row["choice_scores"] = [float(score) for score in choice_scores[i]]
        rows.append(row)
    name = task.submission or task.name
    lines = [f"{e.id}\t{_written(task, value)}\n" for e, value in zip(split.examples, values, strict=True)]
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


def _written(task: Task, value: float) -> str:
    return f"{value:.6g}" if task.regression else (task.written or task.labels)[int(value)]
