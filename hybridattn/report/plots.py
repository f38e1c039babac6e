"""The report's charts, drawn with matplotlib (extra `report`), each in a wide and a narrow layout.

`render_all(results)` takes the results of hybridattn.report; `figure.py` has the look.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from ..charts.figure import (
    NARROW,
    PALETTE,
    WIDE,
    floats,
    new_figure,
    series,
    set_legend,
    set_title,
    short_text,
    sparse,
    to_png,
    to_svg,
    token_axis,
)
from . import verdict


def available() -> bool:
    """Whether matplotlib can be imported."""
    return importlib.util.find_spec("matplotlib") is not None


def render_all(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every chart the results have numbers for."""
    charts = {"layer_scores": layer_scores, "quality": quality, "cost": cost, "loss": loss}
    rendered = {}
    for name, draw in charts.items():
        wide = draw(results, WIDE)
        if wide is not None:
            narrow = draw(results, NARROW)
            rendered[name] = {
                "png": to_png(wide),
                "wide": to_svg(wide, f"{name}-w"),
                "narrow": to_svg(narrow, f"{name}-n"),
            }
    return rendered


def layer_scores(results: dict[str, Any], width: float) -> Any:
    """A panel of bars per scoring method, the deciding one on top; layers that stay softmax are coloured."""
    scores = [s for s in results["scores"] if any(v is not None for v in s["values"])]
    if not scores:
        return None
    chosen = results["chosen"]
    scores.sort(key=lambda s: (s["method"], s["text"]) != (chosen["method"], chosen["text"]))
    wide = width >= WIDE
    heights = [1.7] + [1.0] * (len(scores) - 1)
    figure, axes = new_figure(
        width, len(scores), 1, height=0.55 * len(scores) + 1.35 * sum(heights), ratios=heights, sharex=True
    )
    layers = results["teacher"]["num_layers"]
    for index, (score, axis) in enumerate(zip(scores, axes)):
        colours = [PALETTE["chosen" if i in chosen["softmax_layers"] else "bar"] for i in range(layers)]
        axis.bar(
            range(layers),
            floats(score["values"]),
            yerr=floats(score["stderr"]),
            color=colours,
            width=0.74,
            error_kw={
                "ecolor": PALETTE["ink"],
                "elinewidth": 0.8,
                "capsize": 1.5 if wide else 0,
                "capthick": 0.8,
            },
        )
        axis.axhline(0, color=PALETTE["muted"], linewidth=0.8)
        set_title(
            axis, ("decided by " if index == 0 else "") + f"{score['method']}, {short_text(score['text'])}"
        )
        axis.tick_params(axis="x", length=0)
        sparse(axis.yaxis)
    axes[0].set_ylabel("score", color=PALETTE["muted"])
    step = 1 if wide and layers <= 32 else max(1, round(layers / (16 if wide else 7)))
    axes[-1].set_xticks(range(0, layers, step))
    axes[-1].set_xlim(-0.7, layers - 0.3)
    axes[-1].set_xlabel("layer", color=PALETTE["muted"])
    return figure


def quality(results: dict[str, Any], width: float) -> Any:
    """KL from the teacher, before (hollow) to after (filled) distillation, one panel per length."""
    names = [
        m
        for m in ("all-linear", *reversed(verdict.BASELINES), "chosen")
        if verdict.evaluation(results, m, "before", results["lengths"]["train"])
    ]
    lengths = results["lengths"]["all"]
    if not names:
        return None
    wide = width >= WIDE
    shape = (1, len(lengths)) if wide else (len(lengths), 1)
    panel = 0.34 * len(names) + 0.75
    figure, axes = new_figure(width, *shape, height=panel * shape[0] + 0.1, sharey=wide)
    for axis, length in zip(axes, lengths):
        for row, name in enumerate(names):
            before, after = (verdict.evaluation(results, name, when, length) for when in ("before", "after"))
            colour, top = PALETTE[name], max(c["kl"] for c in (before, after) if c) if before or after else 0
            axis.plot([0, top], [row, row], color=PALETTE["rule"], linewidth=1.0, zorder=1)
            if before and after:
                axis.annotate(
                    "",
                    (after["kl"], row),
                    (before["kl"], row),
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.6},
                )
            for cell, filled in ((before, False), (after, True)):
                if cell:
                    axis.errorbar(
                        cell["kl"],
                        row,
                        xerr=floats([cell["kl_stderr"]]),
                        fmt="o",
                        markersize=6.5,
                        color=colour,
                        markerfacecolor=colour if filled else "#ffffff",
                        markeredgewidth=1.5,
                        elinewidth=1.0,
                        zorder=3,
                    )
        axis.set_yticks(range(len(names)), [verdict.LABELS[m] for m in names])
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.set_xlim(left=0)
        sparse(axis.xaxis)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.grid(False, axis="y")
        set_title(axis, f"{length:,} tokens at a time")
        if not wide and axis is not axes[-1]:
            continue
        axis.set_xlabel("KL from the teacher, nats per token", color=PALETTE["muted"])
    return figure


def cost(results: dict[str, Any], width: float) -> Any:
    """Cache size, decode time and prefill speed against text length: teacher, all linear, KL-chosen."""
    names = [m for m in ("teacher", "all-linear", "chosen") if verdict.model(results, m)]
    timed = [int(k) for m in names for k in verdict.entry(results, m).get("decode") or {}]
    if not timed:
        return None
    wide = width >= WIDE
    figure, axes = new_figure(width, *((1, 3) if wide else (3, 1)), height=2.5 if wide else 5.6)
    span = [i * max(timed) / 24 for i in range(25)]
    panels: list[tuple[str, Any]] = [
        (
            "cache, MiB",
            lambda m: (
                (span, [(verdict.cache_bytes(m, c) or 0.0) / 2**20 for c in span])
                if m.get("cache")
                else ([], [])
            ),
        ),
        ("writing one token, ms", lambda m: series(m.get("decode"), lambda length, s: 1000 * s)),
        ("reading, tokens per s", lambda m: series(m.get("prefill"), lambda length, s: length / s)),
    ]
    for axis, (title, points) in zip(axes, panels):
        for name in names:
            xs, ys = points(verdict.entry(results, name))
            if xs:
                axis.plot(
                    xs,
                    ys,
                    color=PALETTE[name],
                    linewidth=2.2 if name == "chosen" else 1.5,
                    marker="o" if len(xs) < 25 else None,
                    markersize=4,
                    linestyle="--" if name == "all-linear" else "-",
                    label=verdict.LABELS[name],
                )
        axis.set_ylim(0, axis.get_ylim()[1] * 1.06)
        axis.set_xlim(0, max(timed) * 1.04)
        axis.set_xticks(sorted({0, max(timed) // 2, max(timed)}))
        axis.set_xticklabels([f"{t:,}" for t in sorted({0, max(timed) // 2, max(timed)})])
        set_title(axis, title)
        sparse(axis.yaxis)
    set_legend(axes[0], loc="upper left")
    (axes[1] if wide else axes[-1]).set_xlabel("tokens already read", color=PALETTE["muted"])
    return figure


def loss(results: dict[str, Any], width: float) -> Any:
    """Training loss against tokens: step 1 (mean over layers), step 2 of every distilled model."""
    align = results["curves"].get("align")
    distill = results["curves"].get("distill") or {}
    count = bool(align) + bool(distill)
    if not count:
        return None
    wide = width >= WIDE
    figure, axes = new_figure(
        width, *((1, count) if wide else (count, 1)), height=2.6 if wide else 2.4 * count
    )
    axes = list(axes)
    if align:
        axis = axes.pop(0)
        marker = "o" if len(align["loss"]) < 4 else None
        axis.plot(align["tokens"], align["loss"], color=PALETTE["teacher"], linewidth=1.5, marker=marker)
        set_title(axis, "align: distance per layer")
        token_axis(axis, align["tokens"])
        axis.set_ylim(bottom=0)
    if distill:
        axis = axes.pop(0)
        for model_id in sorted(distill, key=lambda m: m == "chosen"):  # the chosen curve on top
            base = "random" if model_id.startswith("random") else model_id
            seen = (
                base in axis.get_legend_handles_labels()[1]
                or verdict.LABELS[base] in axis.get_legend_handles_labels()[1]
            )
            axis.plot(
                distill[model_id]["tokens"],
                distill[model_id]["loss"],
                color=PALETTE[base],
                linewidth=2.0 if base == "chosen" else 1.3,
                marker="o" if len(distill[model_id]["loss"]) < 4 else None,
                label=None if seen else verdict.LABELS[base],
            )
        set_title(axis, "distill: KL from the teacher")
        token_axis(axis, next(iter(distill.values()))["tokens"])
        axis.set_ylim(0, 1.3 * max(max(c["loss"]) for c in distill.values()))  # room for the legend
        set_legend(axis, loc="upper right", ncols=3)
    return figure


def selectors(points: dict[str, dict[str, float]], title: str) -> bytes:
    """PNG: KL of each selector's hybrid, before step 2 (hollow) and after it (filled), the best on top.

    points: selector -> {"zero-shot": KL, "distilled": KL}, either may be missing.
    """
    order = sorted(
        points, key=lambda name: -points[name].get("distilled", points[name].get("zero-shot", 0.0))
    )
    figure, axes = new_figure(WIDE, 1, 1, height=0.24 * len(order) + 0.9)
    axis = axes[0]
    for row, name in enumerate(order):
        guided = name.startswith("kl_")
        colour = PALETTE["chosen" if guided else "uniform"]
        for when, filled in (("zero-shot", False), ("distilled", True)):
            if when in points[name]:
                face = colour if filled else "#ffffff"
                axis.plot(points[name][when], row, "o", color=colour, markerfacecolor=face, markersize=6)
    axis.set_yticks(range(len(order)), order)
    axis.set_xlim(left=0)
    axis.set_xlabel("KL from the teacher, nats per token", color=PALETTE["muted"])
    axis.tick_params(axis="y", length=0)
    set_title(axis, title)
    return to_png(figure)
