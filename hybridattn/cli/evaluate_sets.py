"""What `hybridattn evaluate --glue` and `--squad` do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..evaluate import glue as glue_sets
from ..evaluate import squad as squad_sets
from ..evaluate.choices import classify, draw_some
from ..evaluate.glue import Split
from ..model.model import Model
from ..report import numbers
from .common import Parser, show, shows
from .models import load_model


def glue(args: argparse.Namespace, parser: Parser) -> None:
    """A GLUE or GLUE-style task by the likelihood of its labels' names."""
    try:
        task = glue_sets.BUILTIN.get(args.glue) or glue_sets.task_named(args.glue)
    except ConfigError:
        known = ", ".join([*glue_sets.TASKS, *glue_sets.BUILTIN])
        parser.error(f"--glue is {args.glue!r}; allowed: {known}")
    if task.name not in glue_sets.BUILTIN and not args.data:
        parser.error(f"--data is needed for {task.name}: a folder of GLUE's files, or a file")
    if task.name in glue_sets.BUILTIN and args.data:
        parser.error(f"--data does not go with {task.name}, which is built in")
    if args.split not in task.files:
        parser.error(f"--split is {args.split!r}; allowed: {', '.join(task.files)}")
    scored = args.split != "test"  # whose labels are secret
    if scored:
        glue_sets.check_metrics(task)

    def read(name: str) -> Split:
        return glue_sets.read(task, args.data, name) if args.data else glue_sets.builtin(task.name, name)

    whole = read(args.split)
    split = whole.take(args.limit)
    pool = None
    if args.shots and args.split == "train":
        # what is asked is not shown with its answer
        pool = replace(whole, examples=whole.examples[len(split) :])
        _enough(args, len(pool), parser)
    elif args.shots:
        pool = read("train")
    settings = {
        "shots": args.shots,
        "pool": pool,
        "seed": args.seed,
        "normalize": args.normalize,
        "batch_size": args.batch_size,
        "progress": shows(args),
    }
    prompt = glue_sets.PROMPTS[task.name]
    model = load_model(args, args.model)
    found = classify(model, split, prompt, **settings)
    teacher = None
    if args.teacher:
        model = Model.from_pretrained(args.teacher, compute=args.compute)
        teacher = classify(model, split, prompt, **settings).predictions
    scores: Mapping[str, Any] = {}
    result = _result(args, task.name, len(split)) | {
        "split": args.split,
        "skipped": split.skipped,
        "truncated": found.truncated,
        "normalize": args.normalize,
    }
    try:
        if scored:
            got, right = found.predictions, split.labels
            scores = glue_sets.evaluate(task, got, right, against=teacher, seed=args.seed)
    finally:  # predictions took long: they are kept whatever becomes of their scores
        if args.predictions:
            paths = glue_sets.write_predictions(
                args.predictions, split, found.predictions, scores, result, found.scores.tolist()
            )
            result["predictions"] = [str(path) for path in paths]
    _show(args, result, scores, 100.0)


def squad(args: argparse.Namespace, parser: Parser) -> None:
    """Written answers to the questions of a SQuAD or SQuAD-style set."""
    data = squad_sets.builtin(args.squad) if args.squad in squad_sets.BUILTIN else squad_sets.read(args.squad)
    questions = data.questions[: args.limit]
    shots: list[squad_sets.Question] = []
    if args.shots:
        rest = data.questions[len(questions) :]
        _enough(args, len(rest), parser)
        shots = draw_some(rest, args.shots, args.seed)
    settings = {
        "no_answer": data.has_no_answers,
        "shots": shots,
        "batch_size": args.batch_size,
        "progress": shows(args),
    }
    model = load_model(args, args.model)
    found = squad_sets.answer(model, questions, **settings)
    teacher = None
    if args.teacher:
        model = Model.from_pretrained(args.teacher, compute=args.compute)
        teacher = squad_sets.answer(model, questions, **settings)
    scores: Mapping[str, Any] = {}
    name = args.squad if args.squad in squad_sets.BUILTIN else Path(args.squad).stem
    result = _result(args, name, len(questions)) | ({"skipped": data.skipped} if data.skipped else {})
    try:
        scores = squad_sets.evaluate(questions, found, against=teacher, seed=args.seed)
    finally:
        if args.predictions:
            paths = squad_sets.write_predictions(args.predictions, name, questions, found, scores, result)
            result["predictions"] = [str(path) for path in paths]
    _show(args, result, scores, 1.0)


def _enough(args: argparse.Namespace, left: int, parser: Parser) -> None:
    """Refuse more shots than there are examples that are not asked themselves."""
    if left < args.shots:
        parser.error(f"--shots is {args.shots}, but --limit leaves {left} other questions to draw from")


def _result(args: argparse.Namespace, name: str, count: int) -> dict[str, Any]:
    result = {"model": args.model, "set": name, "examples": count, "shots": args.shots, "seed": args.seed}
    return result | ({"teacher": args.teacher} if args.teacher else {})


def _show(
    args: argparse.Namespace, result: dict[str, Any], scores: Mapping[str, Any], percent: float
) -> None:
    rows = [[name, str(result[name])] for name in ("examples", "skipped", "truncated") if result.get(name)]
    clean: dict[str, Any] = {}
    metrics = [name for name in scores if not name.endswith(("_interval", "_difference"))]
    hidden = "score" if len(metrics) == 2 else ""  # of a single metric the score is the metric
    for name, value in scores.items():
        if isinstance(value, list):
            clean[name] = [numbers.finite(end) for end in value]
            continue
        clean[name] = value if isinstance(value, int) else numbers.finite(value)
        if isinstance(value, int) or (hidden and name.startswith(hidden)):
            continue
        ends = scores.get(f"{name}_interval")
        within = f"  [{ends[0] * percent:.2f}, {ends[1] * percent:.2f}]" if ends else ""
        rows.append([name.replace("_", " "), f"{value * percent:.2f}{within}"])
    rows += [["written", path] for path in result.get("predictions", [])]
    show(args, result | clean, (), rows)
