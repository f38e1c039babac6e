"""The methods by name, more of them from outside, and the one door to them: `score`."""

from __future__ import annotations

import inspect
import keyword
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_int, refuse
from ..diagnostics import KINDS
from ..errors import DataError
from ..model.base import linear_mixer, switchable
from ..signatures import named
from . import baselines, diagnostic, distilled, greedy, joint, kl
from .scores import LayerScores
from .scoring import Floats, Result, Scoring

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model

# Name -> (what it measures, in one line; the function). A function takes a Scoring and its own options.
_TEXT: dict[str, tuple[str, Callable[..., Result]]] = {
    "kl_replace": ("KL when only this layer is linear (forward passes with shared prefixes)", kl.replace),
    "kl_restore": ("KL won back when only this layer of an all-linear model is softmax (forward passes)",
                   kl.restore),
    "kl_restore_distilled": ("kl_restore after a short step 2 of every candidate (GA-S2), the costly one",
                             distilled.score),
    "kl_gate": ("slope of the KL with all layers mixed half softmax, half linear (one backward pass)",
                kl.gate),
    "kl_greedy_add": ("search: restore the layer that lowers the KL most, again and again", greedy.add),
    "kl_greedy_remove": ("search: make the layer linear that raises the KL least, again and again",
                         greedy.remove),
    "kl_joint": ("search: gradient descent on all gates at once, weights frozen", joint.search),
    "mse": ("baseline: what step 1 left between the two mixers of a layer, relative", baselines.mse),
    "perplexity": ("baseline: rise of the log-likelihood when the layer's attention is zero",
                   baselines.perplexity),
    "smart": ("baseline: kl_restore's scores, placed near both ends and near evenly between (SMART)",
              baselines.smart),
    **{f"diagnostic:{kind}": (f"baseline: what answers lose when only this layer is linear: {line}",
                              diagnostic.selector(kind)) for kind, line in KINDS.items()},
}  # fmt: skip
# These need no text: a function of the number of layers gives the options that fix the set.
_FIXED: dict[str, tuple[str, Callable[..., dict[str, object]]]] = {
    "uniform": ("baseline: softmax layers at even distances, no text needed", baselines.uniform),
    "random": ("baseline: softmax layers drawn at random from a seed", baselines.random),
    "first_last": ("baseline: softmax layers from both ends inwards", baselines.first_last),
}
SELECTORS = {name: line for name, (line, _) in [*_TEXT.items(), *_FIXED.items()]}
_OWN: set[str] = set()  # those that `register_selector` added


def selectors() -> dict[str, str]:
    """The scoring methods and what each one measures, in one line."""
    return dict(SELECTORS)


def register_selector(
    name: str,
    function: Callable[..., Any],
    summary: str = "registered from Python",
    *,
    replace: bool = False,
) -> None:
    """Make `function` a scoring method of that name, for this process.

    function(scoring, **options) gives the scores of the layers, the one to keep softmax highest: an array
    [num_layers], or [num_layers, m] with one for each window of the text, from which standard errors come, or
    a `scoring.Result`, which has room for more. scoring, a `scoring.Scoring`, holds `probe` and `data` and
    runs the passes (`flip`, `flip_teacher`, `kl`, `gradient`, `alignment`), so that the cost is counted. The
    options are the function's own keywords with their defaults, given to `score` as options={...}; one called
    seed or k is also filled from `score`'s own. replace: of a method that was registered before, not of one
    that is built in. `testing.check_selector` tries it. Raises ConfigError for a name that is taken, and what
    is no function of at least one argument.
    """
    given: Any = name
    plain = given.replace(":", "_") if isinstance(given, str) else ""
    if not plain.isidentifier() or keyword.iskeyword(plain):
        raise refuse("name of a selector", name, "letters, digits, _ and :")
    if name in SELECTORS and not (replace and name in _OWN):
        raise refuse("name of a selector", name, "one that is not taken")
    measure: Any = function
    if not callable(measure) or not list(inspect.signature(measure).parameters):
        raise refuse("function of a selector", function, "a function of a Scoring")
    if len(str(summary).splitlines()) != 1:
        raise refuse("summary of a selector", summary, "one line of text")
    _OWN.add(name)
    _TEXT[name] = (str(summary), function)
    SELECTORS[name] = str(summary)


def reads_text(method: str) -> bool:
    """Whether a method needs text to score on."""
    return method in _TEXT


def takes(method: str, option: str) -> bool:
    """Whether a method has an option of that name, such as k."""
    return option in _options_of({**_TEXT, **_FIXED}[method][1])


@named
def score(
    probe: Model,
    data: TokenData | None,
    method: str = "kl_replace",
    *,
    alpha: float | Sequence[float] | None = None,
    seed: int = 0,
    k: int | None = None,
    swaps: int | None = None,
    steps: int | Sequence[int] | None = None,
    lr: float | None = None,
    relative: bool | None = None,
    train: TokenData | None = None,
    batch_size: int | None = None,
    lr_mixers: float | None = None,
    lr_rest: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | None = None,
    wait: float | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> LayerScores:
    """Score every layer of `probe` (both mixers in every layer, as `radlads.align` returns it) on
    `data`'s windows, any text: plain, recall prompts, a mix; `data.weights` say which tokens count.

    method: a key of SELECTORS. alpha: of kl_gate (default .5), the gate of all layers (0 linear, 1 softmax)
    at which the slope is taken; several are averaged, and (0, .25, .5, .75) integrates the KL along the way.
    At 1 the slope is zero: refused. seed: for random, diagnostics and kl_restore_distilled. k: for searches
    and kl_restore_distilled, the size of the set (default: a quarter of the layers). None everywhere:
    the method's own default, see `SELECTORS` for the methods and `inspect.signature` of their functions.
    swaps: of the greedy searches (0), how many exchanges to try afterwards. steps, lr: of kl_joint (24, .4),
    its gradient descent. relative: of mse (True), see `baselines.mse`. steps, train, batch_size, lr_mixers,
    lr_rest, folder, shard, wait: of kl_restore_distilled, see `distilled.score`. options: any of these or of
    a registered method's own, by name (see `register_selector`). The probe's gates and weights are left as
    they were. Raises ConfigError, also for an option that the method does not have; DataError when data is
    missing, or when a registered method gives something else than scores.
    """
    if method not in SELECTORS:
        raise refuse("method", method, ", ".join(SELECTORS))
    check_int("seed", seed, 0)
    linear = linear_mixer(probe)
    numbers = switchable(probe)
    layers = len(numbers)
    place: dict[str, Any] = (
        {} if layers == len(probe.layers) else {"layers": tuple(numbers), "total": len(probe.layers)}
    )
    started = time.monotonic()
    known = {"seed": seed, "k": k}
    own = {
        "alpha": alpha,
        "swaps": swaps,
        "steps": steps,
        "lr": lr,
        "relative": relative,
        "train": train,
        "batch_size": batch_size,
        "lr_mixers": lr_mixers,
        "lr_rest": lr_rest,
        "folder": folder,
        "shard": shard,
        "wait": wait,
    }
    settings = {name: value for name, value in own.items() if value is not None} | dict(options or {})
    if method in _FIXED:
        function = _FIXED[method][1]
        fixed = function(layers, **_chosen(method, function, known, settings))
        return LayerScores(method, np.zeros((layers, 0)), mixer=linear, options=fixed, **place)
    if data is None:
        raise DataError(f"data is None; allowed for method {method!r}: windows of text to score on")
    measure = _TEXT[method][1]
    scoring = Scoring(probe, data, method, progress)
    chosen = _chosen(method, measure, known, settings)
    found = measure(scoring, **chosen)
    if method in _OWN:
        found = _result(method, found, chosen, scoring)
    by_window = found.text is None and found.rows.shape[1] == len(scoring.data)
    return LayerScores(
        method,
        found.rows,
        _mean(found.base, scoring),
        _mean(found.all_linear, scoring),
        time.monotonic() - started,
        found.text or data.label,
        mixer=linear,
        options=found.options,
        cost=scoring.cost(),
        measure=scoring.scorer.measure,
        tokens=scoring.tokens if by_window else None,
        **place,
    )


def _result(method: str, found: Any, chosen: dict[str, Any], scoring: Scoring) -> Result:
    """What a registered method gave, as a Result with a finite number for every layer; DataError. An array
    comes with the options that were chosen.
    """
    plain = {name: value for name, value in chosen.items() if isinstance(value, (bool, int, float, str))}
    result = found if isinstance(found, Result) else Result(found, options=plain)
    try:
        rows = np.array(result.rows, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"selector {method} gave {found!r:.80}; allowed: numbers, or a Result") from None
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != scoring.layers or rows.shape[1] == 0:
        raise DataError(
            f"selector {method} gave scores of shape {list(np.shape(result.rows))}; "
            f"allowed: [{scoring.layers}] or [{scoring.layers}, m], a row for each layer"
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(f"selector {method} gave {rows[bad[0]].min()} for layer {bad[0]}; allowed: a number")
    return replace_fields(result, rows=rows)


def _mean(values: Floats | float, scoring: Scoring) -> float:
    """The mean over windows, of one value itself."""
    return float(scoring.mean(np.asarray(values))) if np.ndim(values) else float(values)


def _options_of(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]


def _chosen(
    method: str, function: Callable[..., object], known: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a method's function: those of `known` that it takes, and `options`, which it has to
    take.
    """
    allowed = _options_of(function)
    for name in options:
        if name not in allowed:
            raise refuse(f"options of {method}", name, ", ".join(allowed) or "none")
    return {**{name: value for name, value in known.items() if name in allowed}, **options}
