"""A plan: which layers stay softmax, and how that was decided. Saved as a small JSON file that a reader
can follow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import check_int
from .errors import PlanError
from .files import write_sheet

if TYPE_CHECKING:
    from .select import LayerScores

FORMAT = "hybridattn-plan-1"


@dataclass(frozen=True)
class Plan:
    """The layers (0-based, ascending) that keep softmax attention; every other layer gets the linear
    `mixer`.

    `method` names what chose them; `mixer` is the linear mixer's spec ({} when the plan serves any); `how`
    holds whatever explains the choice (scores, text, seed) and is written to the file as it is.
    """

    softmax_layers: tuple[int, ...]
    num_layers: int
    method: str
    mixer: dict[str, Any] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers = tuple(int(i) for i in self.softmax_layers)
        object.__setattr__(self, "softmax_layers", layers)
        if self.num_layers < 1:
            raise PlanError(f"num_layers is {self.num_layers}; allowed: 1 or more")
        if list(layers) != sorted(set(layers)):
            raise PlanError(f"softmax_layers is {list(layers)}; allowed: ascending numbers without repeats")
        if layers and not (layers[0] >= 0 and layers[-1] < self.num_layers):
            raise PlanError(f"softmax_layers is {list(layers)}; allowed: 0 to {self.num_layers - 1}")

    @property
    def k(self) -> int:
        """The number of softmax layers."""
        return len(self.softmax_layers)

    @property
    def ratio(self) -> float:
        """The share of layers that stay softmax."""
        return self.k / self.num_layers

    @property
    def linear_layers(self) -> tuple[int, ...]:
        """The layers that become linear, ascending."""
        return tuple(i for i in range(self.num_layers) if i not in self.softmax_layers)

    def to_dict(self) -> dict[str, Any]:
        """What `save` writes and a hybrid's config.json carries."""
        return {
            "format": FORMAT,
            "method": self.method,
            "num_layers": self.num_layers,
            "softmax_layers": list(self.softmax_layers),
            "mixer": self.mixer,
            "how": self.how,
        }

    @classmethod
    def from_dict(cls, data: Any, source: str = "plan") -> Plan:
        """The plan in a dict as `to_dict` makes it. `source` names the file in errors. Raises PlanError."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            got = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise PlanError(f"{source}: format is {got!r}; allowed: {FORMAT!r}")
        want = {"method": str, "num_layers": int, "softmax_layers": list, "mixer": dict, "how": dict}
        for key, kind in want.items():
            if not isinstance(data.get(key), kind) or isinstance(data[key], bool):
                raise PlanError(f"{source}: {key} is {data.get(key)!r}; allowed: a {kind.__name__}")
        if not all(type(i) is int for i in data["softmax_layers"]):
            raise PlanError(f"{source}: softmax_layers is {data['softmax_layers']}; allowed: whole numbers")
        try:
            return cls(
                tuple(data["softmax_layers"]), data["num_layers"], data["method"], data["mixer"], data["how"]
            )
        except PlanError as error:
            raise PlanError(f"{source}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all."""
        write_sheet(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan. Raises PlanError naming the file and the field when it is not one."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PlanError(f"{path}: not a JSON file: {error}") from None
        return cls.from_dict(data, str(path))


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
    k = affordable(layers, budget, costs) if budget else _budget(layers, k, ratio)
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
    return made


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


def affordable(num_layers: int, budget: Mapping[str, float], costs: Mapping[str, Any] | None) -> int:
    """The largest number of softmax layers within every limit of `budget`. Layers of a kind cost alike,
    so a set costs between all linear and all softmax in proportion. Raises PlanError when no number fits,
    and for costs of a model with another number of layers.
    """
    if costs is None:
        raise PlanError(f"costs is None; allowed with {', '.join(budget)}: what measure.layer_costs returns")
    if costs.get("num_layers", num_layers) != num_layers:
        raise PlanError(f"costs are of {costs['num_layers']} layers; allowed: {num_layers}, as the scores")
    allowed = set(range(num_layers + 1))
    for name, limit in budget.items():
        try:
            linear, softmax = float(costs["all_linear"][name]), float(costs["all_softmax"][name])
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


def uniform(num_layers: int, k: int, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers at even distances: layer floor((j + 1) * L / k) - 1 for j = 0 .. k-1.

    The layers are cut into k groups as equal as they can be, and the last layer of each group stays softmax.
    7 of 28 gives 3, 7, .., 27: the paper's uniform set at 25%, and the pattern of models trained as three
    linear layers, then one softmax.
    """
    _budget(num_layers, k, None)
    layers = tuple((j + 1) * num_layers // k - 1 for j in range(k))
    return Plan(
        layers,
        num_layers,
        "uniform",
        dict(mixer or {}),
        {"rule": "layer floor((j + 1) * L / k) - 1, j = 0..k-1"},
    )


def random(num_layers: int, k: int, seed: int = 0, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers drawn without replacement: the first k of the seed's permutation, so sets for
    growing k are nested.
    """
    _budget(num_layers, k, None)
    layers = tuple(sorted(int(i) for i in permutation(num_layers, seed)[:k]))
    how = {"rule": "first k of numpy.random.default_rng(seed).permutation(L)", "seed": seed}
    return Plan(layers, num_layers, "random", dict(mixer or {}), how)


def first_last(num_layers: int, k: int, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers from both ends inwards: 0, L-1, 1, L-2, .. (the first half of them, rounded up,
    in front).
    """
    _budget(num_layers, k, None)
    front = (k + 1) // 2
    layers = (*range(front), *range(num_layers - (k - front), num_layers))
    return Plan(layers, num_layers, "first_last", dict(mixer or {}), {"rule": "from both ends inwards"})


def smart(values: Sequence[float], k: int) -> tuple[int, ...]:
    """The set of SMART (Zebra-Llama, arXiv 2505.17272) for sensitivities [num_layers].

    The best layer of the first L // k and the best of the last L // k stay; between them, layers at near-even
    distances (the mean distance rounded down or up) whose sensitivities have the largest sum.
    """
    layers = len(values)
    _budget(layers, k, None)
    if k <= 1:
        return tuple(sorted(range(layers), key=lambda i: -values[i])[:k])
    end = layers // k
    first = max(range(end), key=lambda i: values[i])
    last = max(range(layers - end, layers), key=lambda i: values[i])
    narrow = (last - first) // (k - 1)
    # best[i]: (sum, path) of the paths that reach layer i with as many layers as rounds so far
    best: dict[int, tuple[float, tuple[int, ...]]] = {first: (values[first], (first,))}
    for _ in range(k - 1):
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for at, (total, path) in best.items():
            for step in (narrow, narrow + 1) if (last - first) % (k - 1) else (narrow,):
                layer = at + step
                if layer <= last:
                    found = (total + values[layer], (*path, layer))
                    if layer not in reached or found[0] > reached[layer][0]:
                        reached[layer] = found
        best = reached
    return best[last][1]


def explicit(num_layers: int, softmax_layers: Sequence[int], mixer: dict[str, Any] | None = None) -> Plan:
    """A plan given by hand."""
    return Plan(
        tuple(sorted(softmax_layers)), num_layers, "explicit", dict(mixer or {}), {"rule": "given by hand"}
    )


def permutation(num_layers: int, seed: int) -> np.ndarray:
    """int64 [num_layers]: the order in which the `random` baseline picks layers."""
    check_int("seed", seed, 0)
    return np.random.default_rng(seed).permutation(num_layers)


def _budget(num_layers: int, k: int | None, ratio: float | None) -> int:
    """k from whichever of the two is given. Raises PlanError."""
    if (k is None) == (ratio is None):
        raise PlanError(f"k, ratio are {k}, {ratio}; allowed: exactly one of the two")
    if ratio is not None:
        if not 0.0 <= ratio <= 1.0:
            raise PlanError(f"ratio is {ratio}; allowed: 0 to 1, the share of layers that stay softmax")
        k = int(ratio * num_layers + 0.5)
    assert k is not None
    if not 0 <= k <= num_layers:
        raise PlanError(f"k is {k}; allowed: 0 to the number of layers, {num_layers}")
    return k
