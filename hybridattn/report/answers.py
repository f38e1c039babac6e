"""The section on what is asked at the end: what a model costs and can still do, beside its teacher."""

from __future__ import annotations

from typing import Any

from . import numbers as n
from . import speed, verdict
from .blocks import Bullets, Details, Heading, Table


def section(results: dict[str, Any]) -> list[Any]:
    """Its blocks; none when no model was asked anything."""
    entries = [verdict.shown(results, name) for name in verdict.table_ids(results)]
    entries = [entry for entry in entries if entry.get("tasks")]
    if not entries:
        return []
    teacher = entries[0]["tasks"]
    blocks: list[Any] = [Heading("What they can still do"), _table(results, entries)]
    notes = ["In brackets: 95% intervals by the bootstrap over examples or questions."]
    if teacher["glue"]:
        sets = n.layers(f"{name} ({row['examples']})" for name, row in teacher["glue"].items())
        notes.append(
            f"**GLUE-style:** the mean score on {sets} examples; each label's name by its likelihood "
            "after the question, with no example before it."
        )
    if teacher["squad"]:
        sets = n.layers(f"{name} ({row['total']})" for name, row in teacher["squad"].items())
        notes.append(
            "**EM, F1:** exact match and overlap, in percent, of the answer with the first line written "
            f"after each question of {sets}."
        )
    if teacher["recall"]:
        notes.append("**Recall:** synthetic prompts whose answer is in them; every token must be right.")
    blocks.append(Bullets(notes))
    blocks.append(Details("Task by task, and less the teacher", [_tasks(entries)]))
    return blocks


def _table(results: dict[str, Any], entries: list[dict[str, Any]]) -> Table:
    """Cost beside the teacher's, perplexity, and the tasks."""
    teacher, train = entries[0], results["lengths"]["train"]
    longest = max(speed.lengths(teacher), default=0)
    parts = teacher["tasks"]
    header = ["model", "parameters", "cache"]
    header += [f"reading {n.count(longest)}", f"writing at {n.count(longest)}"] if longest else []
    header.append("perplexity")
    header += ["GLUE-style"] if parts["average"] else []
    header += [f"{name} {what}" for name in parts["squad"] for what in ("EM", "F1")]
    header += [name.replace("_", " ") for name in parts["recall"]]
    rows = []
    for entry in entries:
        size = verdict.cache_bytes(entry, longest or max(results["lengths"]["all"]))
        row = [verdict.label(entry["id"]), n.millions(entry.get("parameters"))]
        row.append(n.size(size))
        if longest:
            row += [speed.beside_teacher(results, entry, what, longest) for what in speed.VERBS]
        found = verdict.cell(entry, entry["tasks"]["when"], train)
        row.append(n.perplexity(found["perplexity"] if found else None))
        row += _scores(entry["tasks"])
        rows.append(row)
    asked = {entry["tasks"]["when"] for entry in entries if entry["id"] not in ("teacher", "all-linear")}
    plain = [verdict.label(m["id"]) for m in entries[1:] if m["tasks"]["when"] == "before"]
    note = f"; not distilled: {n.layers(plain)}" if asked == {"after"} and plain else ""
    return Table(
        header,
        rows,
        f"Cache at {n.count(longest or max(results['lengths']['all']))} tokens{note}."
        + (f" {speed.note(results)}" if longest else ""),
        verdict.chosen_rows(rows),
    )


def _scores(found: dict[str, Any]) -> list[str]:
    cells = []
    if found["average"]:
        cells.append(_percent(found["average"], "score", 100.0))
    cells += [_percent(row, what, 1.0) for row in found["squad"].values() for what in ("exact", "f1")]
    return cells + [n.score(100.0 * row["accuracy"]) for row in found["recall"].values()]


def _tasks(entries: list[dict[str, Any]]) -> Table:
    """A row for each model and set."""
    rows = []
    for kind, what, percent in (("glue", "score", 100.0), ("squad", "exact", 1.0), ("squad", "f1", 1.0)):
        for name in entries[0]["tasks"][kind]:
            for entry in entries:
                row = entry["tasks"][kind][name]
                label = {"exact": "exact match", "f1": "F1"}.get(what, "score")
                less = _percent(row, f"{what}_difference", percent, "+")
                rows.append(
                    [verdict.label(entry["id"]), f"{name}, {label}", _percent(row, what, percent), less]
                )
    return Table(["model", "set", "percent", "less the teacher's"], rows, "", verdict.chosen_rows(rows))


def _percent(row: dict[str, Any], name: str, percent: float, sign: str = "") -> str:
    """A score of `row` in percent, with its interval where that is known."""
    if row.get(name) is None:
        return n.MISSING
    ends = row.get(f"{name}_interval") or [None]
    return n.score(row[name] * percent, None if None in ends else [end * percent for end in ends], sign)
