"""The charts of single results, for notebooks: scores, plan, losses, a comparison of models.

Results are taken as they are: their classes stand in rooms that draw with this one.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Collection, Mapping
from typing import Any

from .figure import NARROW, PALETTE, WIDE, floats, new_figure, set_title, sparse, to_png


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


def comparison(models: Mapping[str, Mapping[str, Any]]) -> Any:
    """A point for each model with its error: KL from the teacher, or perplexity where there is none."""
    _needs_matplotlib()
    measured = "kl" if all("kl" in row for row in models.values()) else "perplexity"
    figure, (axis,) = new_figure(WIDE, 1, 1, height=0.3 * len(models) + 0.8)
    names = list(models)
    values = [models[name][measured] for name in names]
    errors = floats([models[name].get(f"{measured}_stderr") for name in names])
    rows = range(len(names))
    axis.errorbar(values, rows, xerr=errors, fmt="o", color=PALETTE["chosen"], ecolor=PALETTE["ink"])
    axis.set_yticks(rows, names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.grid(True, axis="x", color=PALETTE["rule"], linewidth=0.6)
    label = "KL from the teacher, nats per token" if measured == "kl" else "perplexity"
    axis.set_xlabel(label + "; less is better", color=PALETTE["muted"])
    return _shown(figure)
