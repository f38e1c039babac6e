"""A plan: which layers stay softmax, and how that was decided. Saved as a small JSON file that a reader
can follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..checks import as_float
from ..errors import PlanError
from ..lazy import contents
from ..model.plan import Plan
from .patterns import explicit, first_last, permutation, random, smart, softmax_count, uniform

if TYPE_CHECKING:
    from .scores import LayerScores

__all__ = [
    "Plan",
    "affordable",
    "explicit",
    "first_last",
    "make",
    "of_model",
    "permutation",
    "random",
    "smart",
    "uniform",
]
__dir__ = contents(__name__)


def make(
    scores: LayerScores,
    k: int | None = None,
    ratio: float | None = None,
    *,
    ms_per_token: float | None = None,
    cache_bytes: float | None = None,
    costs: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan that keeps the first `k` layers of the scores' order softmax, or round(ratio * num_layers)
    of them, or as many as a budget allows: `ms_per_token` of decoding, `cache_bytes` of one sequence,
    or both, at the context length of `costs` (see `measure.layer_costs`), which the plan then carries.

    Equal scores go to the lower layer. Scores of `uniform`, `random`, `first_last` and `smart` give the
    sets of the functions of those names. Raises PlanError.
    """
    layers = scores.num_layers
    budget = {
        name: v for name, v in (("ms_per_token", ms_per_token), ("cache_bytes", cache_bytes)) if v is not None
    }
    if budget and (k is not None or ratio is not None):
        raise PlanError(
            f"{', '.join(budget)} and k or ratio are given; allowed: a number of layers or a budget"
        )
    if budget and costs and scores.mixer and costs.get("mixer", scores.mixer) != scores.mixer:
        raise PlanError(f"costs are of mixer {costs['mixer']}; allowed: {scores.mixer}, as the scores")
    k = affordable(layers, budget, costs, scores.total) if budget else softmax_count(layers, k, ratio)
    if scores.method == "uniform":
        made = uniform(layers, k, scores.mixer)
    elif scores.method == "random":
        made = random(layers, k, int(scores.options["seed"]), scores.mixer)
    elif scores.method == "first_last":
        made = first_last(layers, k, scores.mixer)
    else:
        made = _by_scores(scores, k)
    if budget:
        made.how.update(budget=budget, costs=dict(costs or {}))
    return of_model(made, scores)


def of_model(plan: Plan, scores: LayerScores) -> Plan:
    """A plan for the scores' rows as one for the model's layers, some of which may be linear for good."""
    if scores.layers is None or scores.total is None:
        return plan
    layers = tuple(scores.layers[i] for i in plan.softmax_layers)
    return Plan(layers, scores.total, plan.method, plan.mixer, {**plan.how, "scored": list(scores.layers)})


def _by_scores(scores: LayerScores, k: int) -> Plan:
    chosen, rule = tuple(scores.top(k)), f"the {k} highest scores"
    if scores.searched:
        rule = f"the first {k} layers of the order that the search found"
    if scores.method == "smart":
        rule = "best layer near each end, near-even distances between"
    how: dict[str, Any] = {
        "rule": rule,
        "text": scores.text,
        "sequences": scores.num_sequences,
        "options": scores.options,
        "scores": [float(v) for v in scores.values],
        "stderr": [float(v) for v in scores.stderr],
        "all_linear_kl": scores.all_linear_kl,
    }
    return Plan(chosen, scores.num_layers, scores.method, dict(scores.mixer), how)


def affordable(
    num_layers: int,
    budget: Mapping[str, float],
    costs: Mapping[str, Any] | None,
    total: int | None = None,
) -> int:
    """The largest number of softmax layers within every limit of `budget`. Layers of a kind cost alike,
    so a set costs between all linear and all softmax in proportion. Raises PlanError when no number fits,
    and for costs of a model with another number of layers. total: those of the model, where some are linear
    for good (None: num_layers).
    """
    given: object = costs
    if not isinstance(given, Mapping):
        raise PlanError(
            f"costs is {given!r}; allowed with {', '.join(budget)}: what measure.layer_costs returns"
        )
    costs = given
    total = num_layers if total is None else total
    if costs.get("num_layers", total) != total:
        raise PlanError(f"costs are of {costs['num_layers']} layers; allowed: {total}, as the scores")
    allowed = set(range(num_layers + 1))
    for name, limit in budget.items():
        try:
            linear, softmax = (as_float(costs[end][name]) for end in ("all_linear", "all_softmax"))
            if not (math.isfinite(linear) and math.isfinite(softmax)):
                raise ValueError(name)
        except (KeyError, TypeError, ValueError):
            raise PlanError(f"costs hold no {name}; allowed: what measure.layer_costs returns") from None
        if min(linear, softmax) > limit:
            raise PlanError(
                f"{name} is {limit:g}; allowed: {min(linear, softmax):g} or more, what "
                f"{'all linear' if linear <= softmax else 'all softmax'} takes"
            )
        allowed &= {k for k in allowed if linear + (softmax - linear) * k / num_layers <= limit}
    if not allowed:
        limits = " and ".join(f"{name} {limit:g}" for name, limit in budget.items())
        raise PlanError(f"no number of softmax layers keeps {limits} together; allowed: a looser one of them")
    return max(allowed)
