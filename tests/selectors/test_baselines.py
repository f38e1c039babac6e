"""Baselines against their definitions: MSE, perplexity, fixed patterns, weights."""

import itertools

import numpy as np
import pytest
from scored import LAYERS, score

from hybridattn import Distiller, KLScorer, evaluate, plan
from hybridattn.errors import ConfigError


def test_mse_is_what_step_one_trains(probe, data):
    absolute = score(probe, data, "mse", relative=False)
    losses = Distiller(probe.copy(), None, "align").run(
        data.tokens, data.windows[:, None], np.zeros((len(data), 2), np.float32), 0, len(data)
    )
    assert pytest.approx(losses, rel=1e-4) == absolute.per_sequence.T
    relative = score(probe, data, "mse")
    silent = probe.copy()
    for name, array in silent.arrays().items():
        if ".window_linear.o_proj." in name:
            array[...] = 0.0
    assert score(silent, data, "mse").per_sequence == pytest.approx(1.0)
    zero = score(silent, data, "mse", relative=False).per_sequence
    assert relative.per_sequence == pytest.approx(absolute.per_sequence / zero, rel=1e-5)


def test_perplexity_is_the_loss_without_the_mixer(probe, data):
    scores = score(probe, data, "perplexity")
    base = evaluate.perplexity(probe.to_hybrid(range(LAYERS)), data)["nll"]
    for layer in (0, 4):
        teacher = probe.to_hybrid(range(LAYERS))
        for name, array in teacher.arrays().items():
            if f"layers.{layer}.softmax.o_proj" in name:
                array[...] = 0.0
        assert scores.values[layer] == pytest.approx(
            evaluate.perplexity(teacher, data)["nll"] - base, abs=1e-3
        )


def test_weights_reach_every_kl_score(probe, data):
    """Only the second half of each window counts: the scores are those of these tokens."""
    weights = np.zeros(len(data.tokens), np.float32)
    for start, stop in data.windows:
        weights[(start + stop) // 2 : stop] = 1.0
    half = type(data)(data.tokens, data.windows, "half", weights)
    scorer = KLScorer(probe)
    ones = np.ones(LAYERS, np.float32)
    for method in ("kl_replace", "kl_restore", "kl_gate"):
        assert not np.allclose(
            score(probe, half, method).values, score(probe, data, method).values, rtol=1e-3
        )
    _, rows = scorer.flip(data.tokens, data.windows, ones, [1], None, weights)
    assert score(probe, half, "kl_replace").per_sequence[1] == pytest.approx(rows[0], rel=1e-5)
    for bad, message in ((-1.0, r"weights\[3\] is not a finite"), (np.nan, r"weights\[3\]")):
        wrong = weights.copy()
        wrong[3] = bad
        with pytest.raises(ValueError, match=message):
            scorer.kl(data.tokens, data.windows, ones, None, wrong)
    with pytest.raises(ValueError, match="weights are 0 on all tokens of window 0 but its first"):
        scorer.kl(data.tokens, data.windows, ones, None, np.zeros_like(weights))


def smart_by_brute_force(values, k):
    layers, end = len(values), len(values) // k
    first = max(range(end), key=lambda i: values[i])
    last = max(range(layers - end, layers), key=lambda i: values[i])
    mean = (last - first) / (k - 1)
    fits = [
        s
        for s in itertools.combinations(range(first, last + 1), k)
        if s[0] == first and s[-1] == last and all(abs(b - a - mean) < 1 for a, b in itertools.pairwise(s))
    ]
    return max(fits, key=lambda s: sum(values[i] for i in s))


@pytest.mark.parametrize("k", [2, 3, 4, 5, 8])
def test_smart_is_the_best_near_even_set(k):
    for seed in range(5):
        values = np.random.default_rng(seed).normal(size=14).tolist()
        assert plan.smart(values, k) == smart_by_brute_force(values, k)
    assert plan.smart([1.0, 3.0, 2.0], 1) == (1,) and plan.smart([1.0, 2.0], 0) == ()


def test_fixed_patterns(probe):
    scores = score(probe, None, "first_last")
    assert plan.make(scores, k=3).softmax_layers == tuple(scores.top(3))
    assert scores.top(3) == [0, 1, 4]
    assert plan.first_last(6, 4).softmax_layers == (0, 1, 4, 5)
    assert plan.first_last(6, 0).softmax_layers == () and plan.first_last(2, 2).softmax_layers == (0, 1)


def test_unknown_options_are_named(probe, data):
    with pytest.raises(ConfigError, match=r"options of kl_replace is 'swaps'; allowed: none"):
        score(probe, data, "kl_replace", swaps=2)
    with pytest.raises(ConfigError, match="k is 5; allowed: 1 to 4"):
        score(probe, data, "kl_greedy_add", k=5)
