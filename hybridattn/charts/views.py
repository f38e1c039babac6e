"""The charts of single results, for notebooks: scores, plan, losses, evaluations, a comparison of models.

Results are taken as they are: their classes stand in rooms that draw with this one.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Collection, Mapping
from typing import Any

from .figure import NARROW, PALETTE, WIDE, floats, new_figure, set_title, sparse, to_png, token_axis


def _needs_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plot needs matplotlib: pip install 'hybridattn[report]'")


def _shown(figure: Any) -> Any:
    """The figure, which a notebook draws as the last line of a cell: without pyplot it would not know how."""
    figure._repr_png_ = functools.partial(to_png, figure)
    return figure


def scores(found: Any, chosen: Collection[int]) -> Any:
    """Of LayerScores: a bar for each layer with its standard error; `chosen` in colour."""
    _needs_matplotlib()
    figure, (axis,) = new_figure(WIDE, 1, 1, height=2.4)
    layers = range(found.num_layers)
    colours = [PALETTE["chosen" if i in chosen else "bar"] for i in layers]
    bars = {"ecolor": PALETTE["ink"], "elinewidth": 0.8}
    axis.bar(layers, found.values, yerr=floats(found.stderr.tolist()), color=colours, error_kw=bars)
    axis.axhline(0, color=PALETTE["muted"], linewidth=0.8)
    if found.layers is not None:
        axis.set_xticks(layers, found.numbers)
    axis.set_xlabel("layer", color=PALETTE["muted"])
    axis.set_ylabel("score", color=PALETTE["muted"])
    axis.set_xlim(-0.7, found.num_layers - 0.3)
    sparse(axis.yaxis)
    set_title(axis, f"{found.method}; in colour the {len(chosen)} layers that stay softmax")
    return _shown(figure)


def plan(made: Any) -> Any:
    """Of a Plan: a row of layers, softmax ones filled."""
    _needs_matplotlib()
    figure, (axis,) = new_figure(WIDE, 1, 1, height=0.9)
    for i in range(made.num_layers):
        fill = PALETTE["chosen"] if i in made.softmax_layers else "none"
        axis.bar(i, 1, width=0.8, color=fill, edgecolor=PALETTE["chosen" if fill != "none" else "bar"])
    axis.set_ylim(0, 1.05)
    axis.set_yticks([])
    axis.grid(False)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("layer", color=PALETTE["muted"])
    set_title(axis, f"{made.k} of {made.num_layers} layers softmax (filled), by {made.method}")
    return _shown(figure)


def losses(result: Any) -> Any:
    """Of a TrainResult: the loss by step, the mean over layers for `align`."""
    _needs_matplotlib()
    figure, (axis,) = new_figure(NARROW * 1.5, 1, 1, height=2.4)
    axis.plot(result.curve, color=PALETTE["chosen"], marker="o" if result.steps < 4 else None)
    axis.set_xlabel("step", color=PALETTE["muted"])
    axis.set_ylim(bottom=min(0.0, float(result.curve.min(initial=0.0))))
    sparse(axis.yaxis)
    set_title(axis, "loss" if result.losses.shape[1] == 1 else "loss, mean over layers")
    return _shown(figure)


KL_AXIS = "KL from the teacher, nats per token"
AGREEMENT_AXIS = "likeliest token as the teacher's, share of tokens"


def comparison(models: Mapping[str, Mapping[str, Any]]) -> Any:
    """A point for each model with its error: KL from the teacher, and the agreement with it where that is
    known, or perplexity where there is no teacher.
    """
    _needs_matplotlib()
    shown = {"perplexity": "perplexity; less is better"}
    if all("kl" in row for row in models.values()):
        shown = {"kl": KL_AXIS + "; less is better"}
        if all("agreement" in row for row in models.values()):
            shown["agreement"] = AGREEMENT_AXIS
    names = list(models)
    figure, axes = new_figure(WIDE, 1, len(shown), height=0.3 * len(models) + 0.8, sharey=True)
    for axis, (measured, label) in zip(axes, shown.items(), strict=True):
        values = [models[name][measured] for name in names]
        errors = floats([models[name].get(f"{measured}_stderr") for name in names])
        _points(axis, names, values, [errors, errors], label)
        if measured == "agreement":
            axis.set_xlim(right=1)
        else:
            axis.set_xlim(left=0)
    return _shown(figure)


def intervals(names: list[str], values: list[tuple[float, float | None, float | None]], unit: str) -> Any:
    """A point for each of `values`, (value, low, high), with its interval where that is known."""
    _needs_matplotlib()
    figure, (axis,) = new_figure(WIDE, 1, 1, height=0.3 * len(names) + 0.8)
    points = [value for value, _, _ in values]
    low = floats([None if end is None else value - end for value, end, _ in values])
    high = floats([None if end is None else end - value for value, _, end in values])
    _points(axis, names, points, [low, high], f"{unit}, with 95% intervals")
    return _shown(figure)


def _points(axis: Any, names: list[str], values: list[float], errors: list[list[float]], label: str) -> None:
    rows = range(len(names))
    axis.errorbar(values, rows, xerr=errors, fmt="o", color=PALETTE["chosen"], ecolor=PALETTE["ink"])
    axis.set_yticks(rows, names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(True, axis="x", color=PALETTE["rule"], linewidth=0.6)
    axis.set_xlabel(label, color=PALETTE["muted"])
    sparse(axis.xaxis)


def windows(parts: list[tuple[str, list[float], float, float]]) -> Any:
    """(label, a value for each window, their mean, its standard error): the values in order, the mean as a
    line with its error as a band.
    """
    _needs_matplotlib()
    figure, axes = new_figure(WIDE if len(parts) > 1 else NARROW * 1.5, 1, len(parts), height=2.4)
    for axis, (label, values, mean, error) in zip(axes, parts, strict=True):
        axis.plot(values, "o", color=PALETTE["bar"], markersize=4)
        axis.axhline(mean, color=PALETTE["chosen"])
        if math.isfinite(error):
            axis.axhspan(mean - error, mean + error, color=PALETTE["chosen"], alpha=0.2, linewidth=0)
        axis.set_xlabel("window of the text", color=PALETTE["muted"])
        sparse(axis.xaxis)
        sparse(axis.yaxis)
        set_title(axis, label)
    return _shown(figure)


def speeds(found: Any) -> Any:
    """Of a Latency: tokens a second of reading and of writing by length."""
    _needs_matplotlib()
    figure, axes = new_figure(WIDE, 1, 2, height=2.4)
    lengths = list(found.prefill)
    parts = {
        "reading, tokens per second": [n / found.prefill[n] for n in lengths],
        "writing, tokens per second": [1.0 / found.decode[n] for n in lengths],
    }
    for axis, (label, values) in zip(axes, parts.items(), strict=True):
        axis.plot(lengths, values, "o-", color=PALETTE["chosen"])
        axis.set_ylim(bottom=0)
        token_axis(axis, [float(n) for n in lengths])
        set_title(axis, label)
    return _shown(figure)
