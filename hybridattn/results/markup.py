"""Small HTML for notebooks: no script, no file beside it, colours that read on white and on black."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Sequence

# One orange and one grey that stand out on both grounds; all other ink is that of the page.
CHOSEN, PLAIN = "#d9632f", "#8c8c8c"
_WIDTH, _ROW = 360, 14  # CSS pixels


def figure(value: float, digits: int = 3) -> str:
    """A number in few digits; a dash for one that is not known."""
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def box(title: str, *parts: str) -> str:
    """A titled block of parts, each HTML of its own; title: text."""
    inner = "".join(f"<div style='margin-top:4px'>{part}</div>" for part in parts if part)
    return (
        "<div style='font-family:sans-serif;font-size:12px;line-height:1.4;max-width:640px'>"
        f"<b>{html.escape(title)}</b>{inner}</div>"
    )


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table of texts: the first column to the left, the others to the right."""
    cell = "padding:1px 10px 1px 0;border:0;text-align:{}"

    def line(texts: Sequence[str], tag: str) -> str:
        sides = ["left"] + ["right"] * (len(texts) - 1)
        return "".join(
            f"<{tag} style='{cell.format(side)}'>{html.escape(text)}</{tag}>"
            for side, text in zip(sides, texts, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    top = f"<tr>{line(head, 'th')}</tr>" if head else ""
    return f"<table style='border-collapse:collapse;font-size:12px;color:inherit'>{top}{body}</table>"


def runs(items: Sequence[object]) -> list[tuple[str, int]]:
    """A row for each run of equal items: its places, "3" or "3 to 5", and the first of them."""
    rows: list[tuple[str, int]] = []
    for i, item in enumerate(items):
        if i and item == items[i - 1]:
            rows[-1] = f"{rows[-1][1]} to {i}", rows[-1][1]
        else:
            rows.append((str(i), i))
    return rows


def _svg(width: float, height: float, inner: str, label: str) -> str:
    return (
        f"<svg width='{width:g}' height='{height:g}' viewBox='0 0 {width:g} {height:g}' role='img' "
        f"aria-label='{html.escape(label, quote=True)}' style='max-width:100%' "
        f"font-family='sans-serif' font-size='10' fill='currentColor'>{inner}</svg>"
    )


def squares(chosen: Collection[int], count: int, label: str) -> str:
    """A row of `count` squares, those of `chosen` filled."""
    side, step = 12, 15
    row = max(1, _WIDTH * 5 // 4 // step)  # squares of a line
    parts = []
    for i in range(count):
        x, y = 1 + i % row * step, 1 + i // row * (step + 2)
        paint = f"fill='{CHOSEN}' stroke='{CHOSEN}'" if i in chosen else f"fill='none' stroke='{PLAIN}'"
        size = f"width='{side}' height='{side}'"
        parts.append(f"<rect x='{x}' y='{y}' {size} {paint}><title>{i}</title></rect>")
    return _svg(min(count, row) * step + 1, -(-count // row) * (step + 2), "".join(parts), label)


def bars(
    values: Sequence[float],
    errors: Sequence[float],
    chosen: Collection[int],
    label: str,
    names: Sequence[object] | None = None,
) -> str:
    """A bar for each value with a whisker of its error to both sides; those of `chosen`, places in `values`,
    in colour. names: what stands before each (None: its place).
    """
    known = [v for v in values if math.isfinite(v)]
    reach = [v + s * e for v, e in zip(values, errors, strict=True) if math.isfinite(e) for s in (-1, 1)]
    low, high = min([0.0, *known, *reach]), max([0.0, *known, *reach])
    scale = (_WIDTH - 90) / ((high - low) or 1.0)
    at = [28 + (v - low) * scale for v in (0.0, *values)]
    zero, parts = at[0], []
    for i, (value, error) in enumerate(zip(values, errors, strict=True)):
        y = i * _ROW
        parts.append(f"<text x='22' y='{y + 10}' text-anchor='end'>{names[i] if names else i}</text>")
        if not math.isfinite(value):
            continue
        left, right = sorted((zero, at[i + 1]))
        colour = CHOSEN if i in chosen else PLAIN
        size = f"width='{right - left:.1f}' height='{_ROW - 4}'"
        parts.append(f"<rect x='{left:.1f}' y='{y + 2}' {size} fill='{colour}'/>")
        reached = right
        if math.isfinite(error):
            ends = [at[i + 1] + sign * error * scale for sign in (-1, 1)]
            parts.append(
                f"<path d='M{ends[0]:.1f} {y + 7}H{ends[1]:.1f}' stroke='currentColor' fill='none'/>"
            )
            reached = max(right, ends[1])
        parts.append(f"<text x='{reached + 4:.1f}' y='{y + 10}'>{figure(value)}</text>")
    parts.append(f"<path d='M{zero:.1f} 0V{_ROW * len(values)}' stroke='currentColor' opacity='.5'/>")
    return _svg(_WIDTH, _ROW * len(values), "".join(parts), label)


def curve(values: Sequence[float], label: str) -> str:
    """A line through the values, in order; the first and last are written beside it."""
    points = [(i, v) for i, v in enumerate(values) if math.isfinite(v)]
    if not points:
        return ""
    low, high = min(0.0, *(v for _, v in points)), max(v for _, v in points)
    width, height = _WIDTH - 50, 90
    across, up = width / max(1, len(values) - 1), (height - 12) / ((high - low) or 1.0)
    at = [(i * across, height - 4 - (v - low) * up) for i, v in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    ends = "".join(
        f"<text x='{min(x + 4, width + 4):.1f}' y='{max(y, 9):.1f}'>{figure(v)}</text>"
        for (x, y), (_, v) in ((at[0], points[0]), (at[-1], points[-1]))
    )
    ground = f"<path d='M0 {height - 4:.1f}H{width}' stroke='currentColor' opacity='.4'/>"
    path = f"<polyline points='{line}' fill='none' stroke='{CHOSEN}' stroke-width='1.5'/>"
    return _svg(_WIDTH, height, ground + path + ends, label)
