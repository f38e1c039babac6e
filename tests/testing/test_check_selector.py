"""`register_selector`, and `check_selector`: it passes every built-in method, and each of its checks fails on
a mutant.
"""

from __future__ import annotations

import numpy as np
import pytest

import hybridattn
from hybridattn import plan, select, testing
from hybridattn.errors import ConfigError, DataError
from hybridattn.select import registry

pytestmark = pytest.mark.usefixtures("one_thread")
MORE = {
    "kl_restore_distilled": lambda: {"train": testing.tiny_text(8, 32, 9), "steps": (1, 2)},
    "kl_joint": lambda: {"steps": 6},
}


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    yield
    for name in list(registry._OWN):
        registry._OWN.discard(name)
        del registry._TEXT[name], registry.SELECTORS[name]


@pytest.mark.parametrize(
    "method", [m for m in select.SELECTORS if not m.startswith(("diagnostic:", "test_"))]
)
def test_built_in_methods_pass(method):
    skip = ["finds_damage"] if method == "perplexity" else []  # it looks at the softmax layers alone
    testing.check_selector(method, skip=skip, **MORE.get(method, dict)())


def test_a_diagnostic_passes_on_windows_that_hold_it():
    """Without `finds_damage`: by likelihood a random model may do better with a broken layer."""
    data = testing.tiny_text(4, 64)
    testing.check_selector("diagnostic:associative_recall", data=data, skip=["finds_damage"])


def replace_by_hand(scoring):
    """kl_replace through the passes that `Scoring` offers."""
    return scoring.flip_teacher()[1]


def randomly(scoring):
    return np.random.default_rng().random(scoring.layers)


def not_a_number(scoring):
    return np.full(scoring.layers, np.nan)


def moves_gates(scoring):
    scoring.probe.gates[:] = 0.5
    return replace_by_hand(scoring)


def reads_gates(scoring):
    return replace_by_hand(scoring).mean(1) + np.arange(4) * scoring.probe.gates[0]


def counts_threads(scoring):
    return replace_by_hand(scoring) * hybridattn.get_num_threads()


def bad_order(scoring):
    return select.Result(replace_by_hand(scoring), options={"order": [0, 0, 1, 2]})


def cannot_be_saved(scoring):
    return select.Result(replace_by_hand(scoring), options={"why": object()})


def upside_down(scoring):
    return -replace_by_hand(scoring)


MUTANTS = [
    ("numbers", not_a_number, "gave nan for layer 0"),
    ("repeats", randomly, "a second call gives other scores"),
    ("leaves_the_probe", moves_gates, "the gates are"),
    ("ignores_gates", reads_gates, "score of layer"),
    ("threads", counts_threads, "1 and 2 threads"),
    ("plans", bad_order, "PlanError"),
    ("saved", cannot_be_saved, "TypeError"),
    ("finds_damage", upside_down, "layer 2, the only one whose linear mixer is broken"),
]


@pytest.mark.parametrize(("check", "function", "message"), MUTANTS, ids=lambda v: str(v)[:16])
def test_a_check_finds_its_mutant(check, function, message):
    name = f"test_{function.__name__}"
    hybridattn.register_selector(name, function, replace=name in select.SELECTORS)
    with pytest.raises(AssertionError, match=f"{check}: .*{message}"):
        testing.check_selector(name, only=[check])


def test_every_check_has_a_mutant():
    assert {check for check, *_ in MUTANTS} == testing.SELECTOR_CHECKS.keys()


def test_a_registered_method_is_one_like_any_other():
    """The same scores as kl_replace by hand, with its errors and cost; options of its own; a plan."""

    def scaled(scoring, *, factor=1.0):
        return replace_by_hand(scoring) * factor

    hybridattn.register_selector("test_scaled", scaled, "kl_replace times a factor", replace=True)
    assert hybridattn.selectors()["test_scaled"] == "kl_replace times a factor"
    probe, data = testing.tiny_model(mixer={"kind": "gla"}), testing.tiny_text(4)
    usual = select.score(probe, data, "kl_replace", progress=False)
    found = select.score(probe, data, "test_scaled", options={"factor": 2.0}, progress=False)
    np.testing.assert_allclose(found.per_sequence, 2 * usual.per_sequence)
    assert found.options == {"factor": 2.0} and (found.stderr > 0).all() and found.cost["forwards"] > 1
    assert plan.make(found, k=1).softmax_layers == plan.make(usual, k=1).softmax_layers
    with pytest.raises(ConfigError, match="options of test_scaled is 'fcator'; allowed: factor"):
        select.score(probe, data, "test_scaled", options={"fcator": 2.0}, progress=False)


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("kl_gate", replace_by_hand, "'kl_gate'; allowed: one that is not taken"),
        ("my score", replace_by_hand, "allowed: letters, digits, _ and :"),
        (3, replace_by_hand, "allowed: letters"),
        ("test_x", 3, "allowed: a function of a Scoring"),
        ("test_x", lambda: 0, "allowed: a function of a Scoring"),
    ],
)
def test_what_cannot_be_registered(name, function, message):
    with pytest.raises(ConfigError, match=message):
        hybridattn.register_selector(name, function)


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (np.zeros(2), r"shape \[2\]; allowed: \[3\] or \[3, m\]"),
        (np.zeros((3, 0)), r"shape \[3, 0\]"),
        ("high", "gave 'high'; allowed: numbers"),
        (None, "selector test_gives gave"),
    ],
)
def test_what_is_no_score_is_refused(gives, message):
    hybridattn.register_selector("test_gives", lambda scoring: gives, replace=True)
    probe = testing.tiny_model(mixer={"kind": "gla"})
    with pytest.raises(DataError, match=message):
        select.score(probe, testing.tiny_text(2), "test_gives", progress=False)
