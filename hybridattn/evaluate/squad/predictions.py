"""Predictions beside their scores: JSON as SQuAD takes submissions, and JSON with everything."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import write_sheet
from .data import Question


def write_predictions(
    folder: str | os.PathLike[str],
    name: str,
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    scores: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write `<name>.predictions.json`, {id: text} as SQuAD's submissions, and `<name>.json`: settings, scores
    and one row a question with its golds; return both paths.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": question.id, "prediction": predictions.get(question.id), "answers": list(question.answers)}
        for question in questions
    ]
    content = {
        "set": name,
        "settings": dict(settings or {}),
        "scores": dict(scores or {}),
        "predictions": rows,
    }
    submission, sheet = target / f"{name}.predictions.json", target / f"{name}.json"
    write_sheet(submission, predictions)
    write_sheet(sheet, content)
    return submission, sheet
