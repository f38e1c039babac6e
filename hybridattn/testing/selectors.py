"""What every selector keeps to, whatever it measures: built in, or registered."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from ..checks import check_choice
from ..data.tokens import TokenData
from ..model.model import Model
from ..select import plan
from ..select.registry import SELECTORS, reads_text, score
from ..select.scores import LayerScores
from .checks import run_checks
from .closeness import assert_same_weights, assert_scores_close
from .models import tiny_model, tiny_text

LAYERS = 4
DAMAGED = 2  # the one layer of `damaged` whose linear mixer is not its softmax


@dataclass(frozen=True)
class SelectorCase:
    """A selector to check: its name and options."""

    method: str
    options: Mapping[str, Any]
    seed: int
    given: TokenData | None = None

    @cached_property
    def probe(self) -> Model:
        made = tiny_model(
            layers=LAYERS, seed=self.seed, mixer={"kind": "window_linear", "window": 8, "sinks": 2}
        )
        made.gates[:] = 0.25  # no selector may depend on them, or change them
        return made

    @cached_property
    def data(self) -> TokenData:
        return tiny_text(6, 32, self.seed) if self.given is None else self.given

    def score(self, probe: Model | None = None) -> LayerScores:
        return score(probe or self.probe, self.data, self.method, progress=False, **self.options)


def check_selector(
    method: str,
    *,
    data: TokenData | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    **options: Any,
) -> None:
    """Try a selector, by its name, on a tiny probe: every check of SELECTOR_CHECKS, or those of `only`,
    without those of `skip`. data: the text, of bytes as tokens and up to 256 of them a window; by default six
    short windows. `options` are those of `score`.

    `finds_damage` wants the layer first whose linear mixer is broken, where all others equal their softmax;
    leave it out for a selector that does not look at the linear mixers, or that measures the likelihood of
    text, to which a random model's layers say nothing. AssertionError lists every check that
    failed. Raises ConfigError for a selector that is not registered, or a check that is not there.
    """
    check_choice("method", method, SELECTORS)
    run_checks(f"selector {method}", SELECTOR_CHECKS, SelectorCase(method, options, seed, data), only, skip)


def _numbers(case: SelectorCase) -> None:
    found = case.score()
    assert found.num_layers == LAYERS, f"scores of {found.num_layers} layers; the probe has {LAYERS}"
    assert np.isfinite(found.values).all(), f"the scores are {found.values}"
    assert sorted(found.order) == list(range(LAYERS)), f"order is {found.order}"
    if reads_text(case.method):
        assert found.cost.get("forwards", 0) > 0, f"cost is {found.cost}; no pass over the text was counted"


def _repeats(case: SelectorCase) -> None:
    first, second = case.score(), case.score()
    assert first.per_sequence.tobytes() == second.per_sequence.tobytes(), "a second call gives other scores"
    assert first.order.tolist() == second.order.tolist(), "a second call gives another order"


def _leaves_the_probe(case: SelectorCase) -> None:
    probe = case.probe
    weights, gates = {name: a.copy() for name, a in probe.arrays().items()}, probe.gates.copy()
    case.score()
    assert np.array_equal(probe.gates, gates), f"the gates are {probe.gates}; before they were {gates}"
    assert_same_weights(probe.arrays(), weights)


def _ignores_gates(case: SelectorCase) -> None:
    first, other = case.score(), case.probe.copy()
    other.gates[:] = 0.75
    assert_scores_close(case.score(other), first, values=1e-6)


def _threads(case: SelectorCase) -> None:
    before, found = _core.get_num_threads(), []
    try:
        for count in (1, 2):
            _core.set_num_threads(count)
            found.append(case.score().per_sequence.tobytes())
    finally:
        _core.set_num_threads(before)
    assert found[0] == found[1], "1 and 2 threads give other bits"


def _plans(case: SelectorCase) -> None:
    found = case.score()
    for k in range(LAYERS + 1):
        made = plan.make(found, k=k)
        assert made.k == k, f"the plan of {k} layers has {made.k}"
        assert len(case.probe.to_hybrid(made).layers) == LAYERS
    if found.nested:
        sets = [set(found.top(k)) for k in range(LAYERS + 1)]
        assert all(a <= b for a, b in itertools.pairwise(sets)), f"sets are not nested: {sets}"


def _saved(case: SelectorCase) -> None:
    found = case.score()
    with tempfile.TemporaryDirectory() as folder:
        found.save(Path(folder) / "scores.json")
        again = LayerScores.load(Path(folder) / "scores.json")
    assert again.per_sequence.tobytes() == found.per_sequence.tobytes(), "a saved file holds other scores"
    assert again.order.tolist() == found.order.tolist(), "a saved file holds another order"


def damaged(seed: int = 0) -> Model:
    """A probe whose linear mixers equal their softmax on windows of up to 256 tokens, but for that of layer
    DAMAGED, which says nothing.
    """
    probe = tiny_model(layers=LAYERS, seed=seed, mixer={"kind": "window", "window": 256, "sinks": 0})
    probe.arrays()[f"layers.{DAMAGED}.window.o_proj.weight"][...] = 0.0
    return probe


def _finds_damage(case: SelectorCase) -> None:
    if reads_text(case.method):
        found = case.score(damaged(case.seed))
        assert int(found.order[0]) == DAMAGED, (
            f"layer {DAMAGED}, the only one whose linear mixer is broken, is not first: the order is "
            f"{found.order.tolist()}, the scores {[float(f'{v:.3g}') for v in found.values]}"
        )


SELECTOR_CHECKS = {
    "numbers": _numbers,
    "repeats": _repeats,
    "leaves_the_probe": _leaves_the_probe,
    "ignores_gates": _ignores_gates,
    "threads": _threads,
    "plans": _plans,
    "saved": _saved,
    "finds_damage": _finds_damage,
}
