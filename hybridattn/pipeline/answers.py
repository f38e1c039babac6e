"""The end of a run: every model is asked what the recipe's [tasks] names, and its answers are held against
the teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import evaluate
from ..diagnostics import KINDS
from ..errors import ConfigError, DataError
from ..evaluate import glue, squad
from ..evaluate.choices import classify
from ..files import finite
from .job import Job

PRIVATE = ("predictions", "answers", "correct")  # of each example; the report holds scores


def check(job: Job) -> None:
    """Refuse at the start what would fail at the end: names, files, metrics that are not installed."""
    part = job.recipe.tasks
    for name in part.recall:
        if name not in KINDS:
            raise ConfigError(f"recipe: tasks.recall holds {name!r}; allowed: {', '.join(KINDS)}")
    limit = int(job.results["teacher"]["max_positions"])
    if part.recall and part.seq_len > limit:
        raise ConfigError(
            f"recipe: tasks.seq_len needs {part.seq_len} positions, but the teacher has {limit}"
        )
    for split in job.question_sets.glue.values():
        glue.check_metrics(split.task)
    if (part.glue or part.squad or part.recall) and job.teacher.tokenizer is None:
        raise DataError("recipe: tasks need a teacher with a tokenizer, and this one has none")


def ask(job: Job, model_id: str, when: str) -> dict[str, Any]:
    """Scores of every set and diagnostic, with differences to the teacher in pairs; predictions go to
    tasks/ID/.
    """
    part, seed, model = job.recipe.tasks, job.recipe.seed, job.model(model_id, when)
    teacher = job.results.get("tasks/teacher")
    folder, facts = job.out / "tasks" / model_id, {"model": model_id, "when": when, "seed": seed}
    found: dict[str, Any] = {"when": when, "glue": {}, "squad": {}, "recall": {}}
    for name, split in job.question_sets.glue.items():
        got = classify(model, split, glue.PROMPTS[name], progress=job.progress)
        theirs = teacher["glue"][name]["predictions"] if teacher else None
        scores = glue.evaluate(split.task, got.predictions, split.labels, against=theirs, seed=seed)
        glue.write_predictions(folder, split, got.predictions, scores, facts, got.scores.tolist())
        found["glue"][name] = scores | {"examples": len(split), "predictions": got.predictions}
    for name, data in job.question_sets.squad.items():
        answers = squad.answer(model, data.questions, no_answer=data.has_no_answers, progress=job.progress)
        theirs = teacher["squad"][name]["answers"] if teacher else None
        marks = squad.evaluate(data.questions, answers, against=theirs, seed=seed)
        squad.write_predictions(folder, name, data.questions, answers, marks, facts)
        found["squad"][name] = marks | {"answers": answers}
    for name in part.recall:
        found["recall"][name] = evaluate.recall(
            model, name, n=part.prompts, seq_len=part.seq_len, seed=seed, progress=job.progress
        ).to_dict()
    result: dict[str, Any] = finite(found | {"average": average(list(found["glue"].values()))})
    return result


def average(scores: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The plain mean of the GLUE-style scores and of their differences to the teacher's, with 95% intervals;
    None of no sets. Sets are independent, so half widths add in squares.
    """
    if not scores:
        return None
    found: dict[str, Any] = {}
    for name in ("score", "score_difference"):
        if all(name in row for row in scores):
            ends = [row[f"{name}_interval"] for row in scores]
            half = math.hypot(*((high - low) / 2.0 for low, high in ends)) / len(scores)
            mean = sum(row[name] for row in scores) / len(scores)
            found |= {name: mean, f"{name}_interval": [mean - half, mean + half]}
    return found


def public(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """A model's result without what is of single examples."""
    if found is None:
        return None
    parts = {
        kind: {name: {k: v for k, v in row.items() if k not in PRIVATE} for name, row in found[kind].items()}
        for kind in ("glue", "squad", "recall")
    }
    return found | parts
