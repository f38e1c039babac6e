"""Predictions beside their scores: JSON as SQuAD takes submissions, and JSON with everything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write
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
    for path, data in ((submission, dict(predictions)), (sheet, content)):
        atomic_write(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return submission, sheet
