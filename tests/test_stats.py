"""Standard errors, pairs, and Student's t against the integral of its density."""

import math

import numpy as np
import pytest

from hybridattn import stats
from hybridattn.errors import ConfigError


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 17, 30, 31, 47, 100, 1000])
def test_student_t95_holds_95_percent(freedom):
    point = stats.student_t95(freedom)
    # substituting x = sqrt(n) tan(a) makes the density a power of a cosine on a finite range
    n = freedom
    angle = np.linspace(0.0, math.atan(point / math.sqrt(n)), 200_001)
    area = np.trapezoid(np.cos(angle) ** (n - 1), angle)
    scale = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
    assert 2 * scale * area == pytest.approx(0.95, abs=7e-6)


def test_student_t95_falls_to_the_normal_point():
    points = [stats.student_t95(n) for n in range(200)]
    assert points[0] == math.inf and points == sorted(points, reverse=True)
    assert stats.student_t95(10**9) == pytest.approx(1.959964, abs=1e-6)


def test_mean_and_pairs():
    assert stats.mean([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / math.sqrt(3)))
    assert math.isnan(stats.mean([5.0])[1])
    assert stats.paired([3.0, 5.0], [1.0, 1.0]) == (3.0, pytest.approx(1.0))
    with pytest.raises(ValueError):
        stats.paired([1.0], [1.0, 2.0])


def test_weights_count_values_by_their_size():
    values = [1.0, 2.0, 4.0]
    assert stats.mean(values, [7, 7, 7]) == pytest.approx(stats.mean(values))
    assert stats.mean(values, [1, 1, 2])[0] == 2.75
    # a window of next to nothing changes next to nothing
    assert stats.mean([*values, 100.0], [1e6, 1e6, 1e6, 1]) == pytest.approx(stats.mean(values), rel=0.1)


def test_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = stats.bootstrap(lambda i: values[i].mean(), 400, resamples=4000)
    error = stats.mean(values.tolist())[1]
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert stats.bootstrap(lambda i: values[i].mean(), 400, resamples=4000) == found
    assert stats.bootstrap(lambda i: values[i].mean(), 400, resamples=4000, seed=1) != found


def test_bootstrap_in_pairs_is_narrower():
    rng = np.random.default_rng(2)
    a = rng.normal(0.0, 1.0, 300)
    b = a + 0.1 + rng.normal(0.0, 0.05, 300)
    alone = stats.bootstrap(lambda i: b[i].mean(), 300)
    pair = stats.bootstrap(lambda i: b[i].mean() - a[i].mean(), 300)
    assert pair.low > 0.08 and pair.high < 0.12 and alone.low < 0.0


def test_bootstrap_leaves_out_what_is_not_defined():
    labels = np.array([0.0, 0.0, 0.0, 1.0])
    share = stats.bootstrap(lambda i: math.nan if labels[i].sum() == 0 else labels[i].mean(), 4)
    assert share.value == 0.25 and share.low == 0.25  # no draw without the last one counts
    assert all(map(math.isnan, stats.bootstrap(lambda i: math.nan, 3)))
    for seed in (-1, 0.5, True):
        with pytest.raises(ConfigError, match=f"seed is {seed}; allowed: an integer of at least 0"):
            stats.bootstrap(lambda i: 0.0, 3, seed=seed)
    with pytest.raises(ValueError, match="level is 95; allowed: above 0 and below 1"):
        stats.bootstrap(lambda i: 0.0, 3, level=95)
