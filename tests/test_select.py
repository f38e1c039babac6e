"""Statistics of layer scores. The KL scores themselves are tested in training/test_kl_scores.py."""

import math

import numpy as np
import pytest

from hybridattn import plan
from hybridattn.diagnostics import KINDS
from hybridattn.errors import ConfigError, DataError
from hybridattn.select import SELECTORS, LayerScores, jaccard, score, selectors, spearman, topk_stability


def test_values_stderr_rank_top():
    rows = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, 0.0], [4.0, 5.0, 6.0]])
    s = LayerScores("kl_replace", rows, all_linear_kl=13.0)
    assert s.values.tolist() == [2.0, 5.0, 0.0, 5.0]
    assert s.stderr[0] == pytest.approx(1 / math.sqrt(3)) and s.stderr[1] == 0
    assert s.rank.tolist() == [2, 0, 3, 1]  # equal scores rank by layer
    assert s.top(2) == [1, 3] and s.top(3) == [0, 1, 3]
    assert (s.sum_single, s.additivity_gap) == (12.0, 1.0)


def test_one_sequence_has_no_stderr():
    assert np.isnan(LayerScores("kl_gate", np.ones((3, 1))).stderr).all()


def test_save_and_load_keep_every_digit(tmp_path):
    s = LayerScores("kl_gate", np.random.default_rng(0).normal(size=(5, 3)), 0.1, text="recall",
                    mixer={"kind": "gated_delta"}, options={"alpha": [0.5]})  # fmt: skip
    s.save(tmp_path / "s.json")
    back = LayerScores.load(tmp_path / "s.json")
    assert np.array_equal(back.per_sequence, s.per_sequence)
    assert (back.base_kl, back.text, back.mixer, back.options) == (0.1, "recall", s.mixer, s.options)
    assert math.isnan(back.all_linear_kl)
    empty = LayerScores("uniform", np.zeros((4, 0)))
    empty.save(tmp_path / "u.json")
    assert LayerScores.load(tmp_path / "u.json").per_sequence.shape == (4, 0)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "x"}'])
def test_load_names_the_file(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DataError, match=r"s\.json: not "):
        LayerScores.load(tmp_path / "s.json")


@pytest.mark.parametrize(("a", "b", "rho"), [
    ([1, 2, 3], [10, 20, 30], 1.0),
    ([1, 2, 3], [3, 2, 1], -1.0),
    ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),
    ([1, 1, 2, 3], [1, 2, 3, 4], 0.9486832980505138),  # ties, value from scipy.stats.spearmanr
])  # fmt: skip
def test_spearman(a, b, rho):
    assert spearman(a, b) == pytest.approx(rho)


def test_spearman_without_an_order():
    assert math.isnan(spearman([1, 1], [1, 2]))
    with pytest.raises(DataError, match="shapes"):
        spearman([1, 2], [1, 2, 3])


def test_jaccard():
    assert jaccard([1, 2], [2, 3]) == 1 / 3
    assert jaccard([], []) == 1.0


def test_stability_of_clear_and_of_tied_scores():
    rng = np.random.default_rng(0)
    clear = LayerScores("kl_gate", np.arange(10.0)[:, None] + 0.01 * rng.normal(size=(10, 16)))
    found = topk_stability(clear, 3)
    assert found["jaccard"] == 1.0 and found["inclusion"] == [0.0] * 7 + [1.0] * 3
    noise = LayerScores("kl_gate", rng.normal(size=(10, 16)))
    vague = topk_stability(noise, 3)
    assert vague["low"] <= vague["jaccard"] <= vague["high"] and vague["sequences"] == 8
    assert sum(vague["inclusion"]) == pytest.approx(3)
    assert topk_stability(noise, 3) == vague  # seeded
    for method, width in (("uniform", 0), ("smart", 8), ("kl_gate", 1)):
        with pytest.raises(DataError, match="2 or more"):
            topk_stability(LayerScores(method, np.zeros((4, width))), 2)
    with pytest.raises(ConfigError, match="k is 0"):
        topk_stability(noise, 0)


@pytest.mark.parametrize("sequences", [2, 4, 32])
def test_noise_is_never_stable(sequences):
    """Sets of 8 of 30 drawn at random share .16 on average, however many sequences were read."""
    rng = np.random.default_rng(1)
    found = [
        topk_stability(LayerScores("kl_gate", rng.normal(size=(30, sequences))), 8, splits=50)["jaccard"]
        for _ in range(40)
    ]
    assert np.mean(found) == pytest.approx(0.16, abs=0.03)


def test_sets_that_do_not_nest():
    """uniform and smart place the layers of each size anew: top is what plan.make keeps."""
    rng = np.random.default_rng(0)
    for method, values in (("uniform", np.zeros((12, 0))), ("smart", rng.normal(size=(12, 4)))):
        scores = LayerScores(method, values)
        assert not scores.nested
        for k in range(13):
            assert tuple(scores.top(k)) == plan.make(scores, k=k).softmax_layers
    assert LayerScores("kl_gate", np.zeros((4, 2))).nested


class Probe:
    layers = [[{"kind": "softmax"}, {"kind": "gated_delta", "rope": 0}]] * 6


def test_baselines_need_no_text():
    s = score(Probe(), None, "random", seed=4)
    assert s.mixer == {"kind": "gated_delta", "rope": 0}
    assert s.top(3) == sorted(np.random.default_rng(4).permutation(6)[:3])
    assert sorted(s.values) == list(range(6))
    assert score(Probe(), None, "uniform").num_sequences == 0


def test_selectors_have_one_line_each():
    offered = selectors()
    assert {"kl_replace", "mse", "uniform", *(f"diagnostic:{kind}" for kind in KINDS)} <= set(offered)
    assert all("\n" not in line and line for line in offered.values())
    offered.clear()  # the caller's own: the methods are still there
    assert "kl_replace" in selectors() and selectors() == SELECTORS


def test_bad_requests():
    with pytest.raises(ConfigError, match=r"method is 'kl'; allowed: kl_replace"):
        score(Probe(), None, "kl")
    with pytest.raises(DataError, match="data is None"):
        score(Probe(), None, "kl_gate")
    only_linear = type("Hybrid", (), {"layers": [[{"kind": "gated_delta"}]]})()
    with pytest.raises(ConfigError, match="layer 0 of the probe"):
        score(only_linear, None, "uniform")
