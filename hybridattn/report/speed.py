"""How fast models are beside their teacher: one sign everywhere, times the teacher's speed, above 1 is
faster. A ratio that is not told from 1 is never given as a number.
"""

from __future__ import annotations

from typing import Any

from ..evaluate import busy
from ..evaluate.rounds import distinguishable
from . import numbers as n
from . import verdict
from .blocks import Figure, Heading, Paragraph, Table

ALIKE = "not distinguishable"
VERBS = {"prefill": "reading", "decode": "writing"}


def lengths(entry: dict[str, Any]) -> list[int]:
    """The lengths that a model was timed at, ascending."""
    return sorted(int(k) for k in entry.get("decode") or {})


def seconds(entry: dict[str, Any], what: str, length: int) -> str:
    """'3.21 s (3.18 s to 3.40 s)'; without the range in results of versions that kept none."""
    middle = (entry.get(what) or {}).get(str(length))
    ends = (entry.get(f"{what}_range") or {}).get(str(length))
    return n.seconds(middle) + (f" ({n.seconds(ends[0])} to {n.seconds(ends[1])})" if ends else "")


def told(results: dict[str, Any], entry: dict[str, Any], what: str, length: int) -> list[float] | None:
    """[median, least, most] of the speed in times the teacher's, where it is told from 1; else None."""
    found = ((entry.get("speed") or {}).get(what) or {}).get(str(length))
    rounds = (results.get("timing") or {}).get("rounds", 0)
    return found if found and distinguishable(found, rounds) else None


def beside_teacher(results: dict[str, Any], entry: dict[str, Any], what: str, length: int) -> str:
    """'1.31× (1.28 to 1.35)', or that no difference is told."""
    if entry["id"] == "teacher":
        return "1"
    if not (entry.get(what) or {}).get(str(length)):
        return n.MISSING
    found = told(results, entry, what, length)
    return n.times(*found) if found else ALIKE


def note(results: dict[str, Any]) -> str:
    """How figures of speed are to be read, for the captions of tables."""
    timing = results.get("timing")
    if not timing:
        return f"Times are the least of runs one after the other, without a range, so speeds are {ALIKE}."
    return (
        f"× is times the teacher's speed, above 1 is faster: the median of {timing['rounds']} rounds in "
        f"which all models took turns, and their range. {ALIKE[0].upper()}{ALIKE[1:]}: the rounds do not "
        "agree on which is faster."
    )


def warning(results: dict[str, Any]) -> list[Paragraph]:
    """What is to be said first where the machine was busy."""
    said = busy.warning((results.get("timing") or {}).get("busy"))
    return [Paragraph(f"**The machine was busy while models were timed:** {said}.", "note")] if said else []


def section(results: dict[str, Any], charts: bool) -> list[Any]:
    """The report's section on memory and speed; none when nothing was timed."""
    timed = lengths(verdict.entry(results, "teacher"))
    if not timed:
        return []
    blocks: list[Any] = [Heading("Memory and speed"), *warning(results)]
    if charts:
        blocks.append(
            Figure(
                "cost",
                "Cache size, decode time and prefill speed against the number of tokens",
                "Cost against text length, one text at a time. Sets of equal size cost the same wherever "
                "the layers are.",
            )
        )
    header = ["model", "length", "cache", "reading", "teacher's speed", "one token", "teacher's speed"]
    rows: list[list[str]] = []
    for model_id in ("teacher", "all-linear", "chosen"):
        entry = verdict.model(results, model_id)
        if not entry or not entry.get("decode"):
            continue
        for length in timed:
            rows.append(
                [verdict.label(model_id), n.count(length), n.size(verdict.cache_bytes(entry, length))]
                + [
                    cell
                    for what in VERBS
                    for cell in (seconds(entry, what, length), beside_teacher(results, entry, what, length))
                ]
            )
    blocks.append(
        Table(
            header,
            rows,
            f"Reading a prompt of that length and writing one token after it. {note(results)}",
            verdict.chosen_rows(rows),
        )
    )
    return blocks


def clause(results: dict[str, Any], what: str) -> str | None:
    """Of the summary: what is told of the chosen hybrid at the longest length; None: nothing was timed."""
    teacher, chosen = verdict.entry(results, "teacher"), verdict.entry(results, "chosen")
    shared = set(lengths(teacher)) & set(lengths(chosen))
    if not shared:
        return None
    length = max(shared)
    deed = f"reading {n.count(length)} tokens" if what == "prefill" else "writing one token after them"
    found = told(results, chosen, what, length)
    if not found:
        return f"no difference from the teacher's speed is told in {deed}"
    own, base = (n.seconds(entry[what][str(length)]) for entry in (chosen, teacher))
    middle, least, most = found
    return (
        f"{deed} takes {own} instead of {base} ({middle:.2f} times the teacher's speed, {least:.2f} to "
        f"{most:.2f} over {results['timing']['rounds']} rounds)"
    )
