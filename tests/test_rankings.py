"""Statistics of rankings: against scipy where it is installed, against values by hand everywhere."""

import math

import numpy as np
import pytest

from hybridattn import rankings
from hybridattn.errors import ConfigError, DataError
from hybridattn.select import LayerScores

PAIRS = [
    ([1, 2, 3], [10, 20, 30]),
    ([1, 2, 3, 4], [1, 3, 2, 4]),
    ([1, 1, 2, 3], [1, 2, 3, 4]),
    ([1, 1, 2, 2, 5], [3, 1, 1, 4, 4]),
    *[tuple(np.random.default_rng(s).integers(0, 6, (2, 12)).tolist()) for s in range(6)],
    *[tuple(np.random.default_rng(s).normal(size=(2, 30))) for s in range(4)],
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_correlations_are_scipys(a, b):
    scipy = pytest.importorskip("scipy.stats")
    assert rankings.spearman(a, b) == pytest.approx(scipy.spearmanr(a, b).statistic, abs=1e-12)
    assert rankings.kendall(a, b) == pytest.approx(scipy.kendalltau(a, b).statistic, abs=1e-12)


def test_paired_bootstrap_is_scipys():
    scipy = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).normal(size=(2, 25)) + [[0.3], [0.0]]
    found = rankings.paired_difference(a, b, resamples=20_000)
    other = scipy.bootstrap((a - b,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    interval = other.confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=0.01)


@pytest.mark.parametrize(("a", "b", "tau"), [
    ([1, 2, 3], [1, 2, 3], 1.0),
    ([1, 2, 3], [3, 2, 1], -1.0),
    ([1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),  # 5 pairs agree, 1 does not
    ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),  # a tie in a
])  # fmt: skip
def test_kendall(a, b, tau):
    assert rankings.kendall(a, b) == pytest.approx(tau)


def test_no_order_no_correlation():
    assert math.isnan(rankings.kendall([1, 1], [1, 2])) and math.isnan(rankings.spearman([1, 1], [1, 2]))
    with pytest.raises(DataError, match="shapes"):
        rankings.kendall([1, 2], [1, 2, 3])


def test_correlation_interval_holds_the_value_and_narrows():
    rng = np.random.default_rng(0)
    few, many = (rng.normal(size=(2, n)) for n in (10, 300))
    for x, noise in (few, many):
        found = rankings.correlation(x, x + noise)
        assert found["low"] < found["value"] < found["high"]
    assert rankings.correlation([1, 2, 3], [1, 2, 3])["value"] == pytest.approx(1.0)
    wide, narrow = (rankings.correlation(x, x + y) for x, y in (few, many))
    assert narrow["high"] - narrow["low"] < 0.5 * (wide["high"] - wide["low"])
    assert rankings.correlation(*few) == rankings.correlation(*few)  # seeded


def test_paired_differences():
    b = np.random.default_rng(1).normal(size=40) * 10  # sequences differ much more than layers do
    a = b + 0.1 + 0.01 * np.random.default_rng(2).normal(size=40)
    found = rankings.paired_difference(a, b)
    assert found["above"] == 1.0 and found["low"] > 0.08 and found["mean"] == pytest.approx(0.1, abs=0.01)
    assert rankings.paired_difference(b, a)["above"] == 0.0
    assert rankings.paired_difference(b, b)["above"] == 0.5
    with pytest.raises(DataError, match="1 sequences"):
        rankings.paired_difference([1.0], [2.0])


def some_scores(noise=0.01, m=16):
    rng = np.random.default_rng(0)
    return LayerScores(
        "kl_gate", np.arange(10.0)[:, None] + noise * rng.normal(size=(10, m)), all_linear_kl=60
    )


def test_above_by_layer():
    scores = some_scores()
    assert rankings.above(scores, 9, 3)["above"] == 1.0
    assert rankings.above(scores, 3, 9)["mean"] == pytest.approx(-6, abs=0.1)
    with pytest.raises(ConfigError, match="b is 10"):
        rankings.above(scores, 1, 10)


def test_agreement_and_budgets():
    a, b = some_scores(), some_scores(noise=8.0)
    found = rankings.agreement([a, b, a], 3)
    assert found["spearman"][0][2] == found["jaccard"][0][2] == found["kendall"][0][2] == pytest.approx(1.0)
    assert found["spearman"][0][1] == found["spearman"][1][0] < 1.0
    rows = rankings.by_budget(b, 3, [1, 4, 16])
    assert [r["sequences"] for r in rows] == [1, 4, 16]
    assert rows[-1]["spearman"] == rows[-1]["kendall"] == pytest.approx(1.0) and rows[-1]["jaccard"] == 1.0
    assert rows[0]["spearman"] < 1.0
    with pytest.raises(ConfigError, match="budgets is 17"):
        rankings.by_budget(b, 3, [17])


def test_uniform_has_no_order_to_agree_with():
    placed = LayerScores("uniform", np.zeros((10, 0)))
    found = rankings.agreement([some_scores(), placed, LayerScores("first_last", np.zeros((10, 0)), options={
        "order": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]})], 3)  # fmt: skip
    assert math.isnan(found["spearman"][0][1]) and math.isnan(found["kendall"][1][0])
    assert found["spearman"][0][2] == pytest.approx(1.0) and found["jaccard"][0][2] == 1.0


def test_windows_count_by_their_tokens():
    a, b = np.array([1.0, 0.0]), np.array([0.0, 0.5])
    assert rankings.paired_difference(a, b)["mean"] == 0.25
    found = rankings.paired_difference(a, b, tokens=[1.0, 9.0])
    assert found["mean"] == pytest.approx(0.1 * 1 - 0.9 * 0.5)
    assert found["low"] == -0.5 and found["high"] == 1.0
    alike = rankings.paired_difference(a, b, tokens=[7.0, 7.0])
    assert alike == pytest.approx(rankings.paired_difference(a, b))


def test_additivity():
    found = rankings.additivity(some_scores(noise=0.0))
    assert found == {"sum_single": 45.0, "all_linear_kl": 60, "gap": 15.0, "share": 0.25}


def test_a_search_has_no_bootstrap():
    searched = LayerScores("kl_greedy_add", np.ones((3, 4)), options={"order": [2, 0, 1]})
    for ask in (rankings.topk_stability, lambda scores, k: rankings.by_budget(scores, k, [1])):
        with pytest.raises(DataError, match="order of a search"):
            ask(searched, 1)
        with pytest.raises(ConfigError, match="k is 0"):
            ask(some_scores(), 0)
