"""A matplotlib figure in the report's look: its colours, axes and titles, and its bytes as PNG and SVG.

In SVG every palette colour becomes a CSS variable of the page and text takes the page's font, so one drawing
serves the light and the dark theme; the PNG (for report.md) keeps the light colours on white.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

PALETTE = {
    "ink": "#1f1d1a",
    "muted": "#75706a",
    "rule": "#dad5cb",
    "chosen": "#b4451f",
    "uniform": "#2f6690",
    "random": "#a88a2a",
    "diagnostic": "#4f7a4a",
    "all-linear": "#99948c",
    "teacher": "#3d3a36",
    "bar": "#c9c3b6",
}
WIDE, NARROW = 8.6, 3.7  # inches; the page scales them to its column


def short_text(text: str) -> str:
    """How a chart calls the text that scores are read on."""
    return {"recall": "recall prompts", "plain": "plain text", "mix": "plain text and recall prompts"}.get(
        text, text
    )


def floats(values: list[float | None]) -> list[float]:
    """None, which JSON has for unknown, as NaN, which matplotlib leaves out."""
    return [math.nan if value is None else value for value in values]


def series(
    values: dict[str, float] | None, value: Callable[[int, float], float]
) -> tuple[list[int], list[float]]:
    """(lengths, value(length, seconds) of each), in order."""
    known = {int(k): v for k, v in (values or {}).items()}
    return sorted(known), [value(length, known[length]) for length in sorted(known)]


def new_figure(
    width: float, rows: int, columns: int, height: float, ratios: list[float] | None = None, **shared: Any
) -> tuple[Any, list[Any]]:
    """A figure without the global pyplot state, and its axes as a flat list, styled."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {"font.size": 8.5, "axes.titlesize": 9, "font.family": "sans-serif", "axes.linewidth": 0.8}
    ):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = {"height_ratios": ratios} if ratios else {}
        if rows > 1:
            figure.set_layout_engine("constrained", hspace=0.06, h_pad=0.06)
        axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid, **shared).ravel().tolist()
    for axis in axes:
        axis.set_facecolor("none")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color(PALETTE["rule"])
        axis.tick_params(colors=PALETTE["muted"], labelsize=8, width=0.8, length=3)
        axis.grid(True, color=PALETTE["rule"], linewidth=0.6)
        axis.grid(False, axis="x")
        axis.set_axisbelow(True)
    return figure, axes


def set_title(axis: Any, text: str) -> None:
    axis.set_title(text, loc="left", color=PALETTE["ink"], pad=7)


def set_legend(axis: Any, **where: Any) -> None:
    axis.legend(
        frameon=False,
        labelcolor=PALETTE["ink"],
        handlelength=1.4,
        borderaxespad=0.1,
        columnspacing=1.2,
        **where,
    )


def sparse(axis: Any) -> None:
    """Few round ticks on an x or y axis."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(4))


def token_axis(axis: Any, tokens: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter

    sparse(axis.xaxis)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if v >= 1000 else f"{v:g}"))
    axis.set_xlim(0, max(tokens) * 1.02)
    axis.set_xlabel("tokens", color=PALETTE["muted"])
    sparse(axis.yaxis)


def to_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Any, prefix: str) -> str:
    """Inline SVG: theme variables for colours, the page's font, ids that no other chart on the page has."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = svg.replace("#ffffff", "var(--paper)")
    svg = re.sub(r"font: (?:\d+ )?([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)
    svg = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"| version="1.1"', "", svg)
    svg = re.sub(r"xlink:href", "href", svg)
    # inside tags only, text keeps its digits; a hundredth of a point is below a pixel
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()
