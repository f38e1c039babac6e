"""Greedy searches, swaps and joint gates against brute force over all sets."""

import itertools

import numpy as np
import pytest
from scored import LAYERS, K, score

from hybridattn import plan
from hybridattn.select import joint
from hybridattn.select.scoring import Scoring


def test_greedy_add_is_greedy(probe, data, set_kl):
    picked = []
    for _ in range(3):
        rest = set(range(LAYERS)) - set(picked)
        picked.append(min(rest, key=lambda layer: set_kl[tuple(sorted([*picked, layer]))]))
    scores = score(probe, data, "kl_greedy_add", k=3)
    assert scores.options["order"][:3] == picked and scores.top(3) == sorted(picked)
    assert scores.base_kl == pytest.approx(set_kl[tuple(sorted(picked))], rel=1e-3)
    assert scores.all_linear_kl == pytest.approx(set_kl[()], rel=1e-3)
    made = plan.make(scores, k=3)
    assert made.softmax_layers == tuple(sorted(picked)) and "search" in made.how["rule"]


def test_greedy_remove_is_greedy(probe, data, set_kl):
    kept = list(range(LAYERS))
    while len(kept) > K:
        kept.remove(min(kept, key=lambda layer: set_kl[tuple(i for i in kept if i != layer)]))
    scores = score(probe, data, "kl_greedy_remove", k=K)
    assert scores.top(K) == kept
    assert sorted(scores.options["order"]) == list(range(LAYERS))


def test_what_a_layer_is_worth_beside_the_set(probe, data, set_kl):
    scores = score(probe, data, "kl_greedy_add", k=K)
    kept = set(scores.top(K))
    for layer in range(LAYERS):
        other = tuple(sorted(kept ^ {layer}))
        change = set_kl[other] - set_kl[tuple(sorted(kept))]
        assert scores.values[layer] == pytest.approx(change if layer in kept else -change, abs=1e-4)


def test_swaps_end_where_no_exchange_helps(probe, data, set_kl):
    """From the worst start there is; what swaps return has no better neighbour."""
    from hybridattn.select import greedy

    worst = max(itertools.combinations(range(LAYERS), K), key=lambda s: set_kl[s])
    task = Scoring(probe, data, "swaps", progress=False)
    found = greedy._finish(task, list(worst), lambda gain: list(range(LAYERS)), 20, np.zeros(1))
    kept = tuple(sorted(found.options["order"][:K]))
    assert found.options["swaps"] and set_kl[kept] < set_kl[worst]
    for out in kept:
        for into in set(range(LAYERS)) - set(kept):
            assert set_kl[tuple(sorted({*kept, into} - {out}))] >= set_kl[kept] - 1e-5
    one = greedy._finish(task, list(worst), lambda gain: list(range(LAYERS)), 1, np.zeros(1))
    assert len(one.options["swaps"]) == 1


def test_joint_gates_choose_a_good_set(probe, data, set_kl):
    scores = score(probe, data, "kl_joint", k=K)
    kls = sorted(set_kl[s] for s in itertools.combinations(range(LAYERS), K))
    assert set_kl[tuple(scores.top(K))] <= kls[2] + 1e-6  # of the ten sets, one of the best three
    assert scores.values.sum() == pytest.approx(K, abs=0.5)
    assert scores.options["steps"] == len(scores.options["kl_by_step"]) == 24
    assert scores.base_kl == pytest.approx(set_kl[tuple(scores.top(K))], rel=1e-3)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_penalty_slope(progress):
    gates = np.random.default_rng(0).random(7)
    slope = joint.penalty_slope(gates, 3, progress)
    for i in range(7):
        step = np.eye(7)[i] * 1e-6
        change = joint.penalty(gates + step, 3, progress) - joint.penalty(gates - step, 3, progress)
        assert slope[i] == pytest.approx(change / 2e-6, rel=1e-5, abs=1e-8)
