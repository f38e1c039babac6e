"""How long a run will take: one timed forward pass, and the work of each stage in tokens of such a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .stages import Stage


def seconds(stages: Sequence[Stage], results: dict[str, dict[str, Any]]) -> float:
    """Expected time of stages; 0 before the teacher has been timed."""
    speed = results.get("teacher", {}).get("forward_tokens_per_second")
    return sum(stage.forwards for stage in stages) / speed if speed else 0.0


def table(stages: Sequence[Stage], done: set[str], results: dict[str, dict[str, Any]]) -> list[str]:
    """The estimate as lines of text, stages of one kind on one line, the sum on the last."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.name.rpartition("/")[0] or stage.name, []).append(stage)
    rows: list[tuple[str, str]] = []
    for name, members in groups.items():
        todo = [s for s in members if s.name not in done]
        count = f" ({len(members)})" if len(members) > 1 else ""
        left = "done" if not todo else _about(seconds(todo, results))
        finished = f", {len(members) - len(todo)} done" if 0 < len(todo) < len(members) else ""
        rows.append((name + count, left + finished))
    speed = results["teacher"]["forward_tokens_per_second"]
    whole = _about(seconds([s for s in stages if s.name not in done], results))
    rows.append(("all", f"{whole}, at {speed:,.0f} tokens/s of the teacher's forward pass"))
    width = max(len(name) for name, _ in rows)
    return ["estimated time:", *(f"  {name:<{width}}  {left}" for name, left in rows)]


def _about(duration: float) -> str:
    """A duration as precise as an estimate is."""
    if duration < 1:
        return "under 1 s"
    return (
        f"{duration:.0f} s"
        if duration < 90
        else f"{duration / 60:.0f} min"
        if duration < 5400
        else f"{duration / 3600:.1f} h"
    )
