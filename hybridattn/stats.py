"""The statistics of comparisons: standard errors, differences in pairs, Student's t, and the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import check_int, refuse

# Two-sided 95% points of Student's t for 1 to 30 degrees of freedom. scipy has more digits, but intervals
# must not depend on whether it is installed; its bootstrap draws other samples than the reports' seeds do.
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_Z95 = 1.959963985


class Interval(NamedTuple):
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    count: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile interval (Efron and Tibshirani 1993, chapter 13) of any statistic over `count` examples.

    statistic: from indices int64 [count] of examples to a number; index i may come any number of times. For
    a difference in pairs give the difference of both metrics on the same indices: every draw is then of
    examples with both models' answers. The same seed draws the same examples. A draw on which the statistic
    is not defined (NaN) is left out; the ends are NaN when none is left. Raises ConfigError.
    """
    return bootstrap_many(lambda i: [statistic(i)], count, resamples=resamples, level=level, seed=seed)[0]


def bootstrap_many(
    statistics: Callable[[npt.NDArray[np.int64]], Sequence[float]],
    count: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """`bootstrap` of several statistics on the same draws."""
    check_int("count", count)
    check_int("resamples", resamples, 2)
    check_int("seed", seed, 0)
    if not 0.0 < level < 1.0:
        raise refuse("level", level, "above 0 and below 1")
    rng = np.random.default_rng(seed)
    values = statistics(np.arange(count))
    drawn = np.array([statistics(rng.integers(0, count, count)) for _ in range(resamples)], np.float64)
    found = []
    for value, column in zip(values, drawn.T, strict=True):
        column = column[~np.isnan(column)]
        ends = np.quantile(column, [(1.0 - level) / 2, (1.0 + level) / 2]) if len(column) else [math.nan] * 2
        found.append(Interval(float(value), float(ends[0]), float(ends[1])))
    return found


def mean(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float]:
    """(mean, standard error) of independent values; the error of a single one is NaN.

    With weights, those of a ratio estimator: what the mean over all tokens varies by when whole windows, of
    unlike lengths, are drawn anew.
    """
    count = len(values)
    shares = [1.0] * count if weights is None else weights
    total = math.fsum(shares)
    middle = math.fsum(w * v for v, w in zip(values, shares, strict=True)) / total
    if count < 2:
        return middle, math.nan
    spread = math.fsum((w * (v - middle)) ** 2 for v, w in zip(values, shares, strict=True))
    return middle, math.sqrt(spread * count / (count - 1)) / total


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """(mean, standard error) of a - b, value by value: the same sequences under two models."""
    return mean([x - y for x, y in zip(a, b, strict=True)])


def student_t95(freedom: int) -> float:
    """The two-sided 95% point for `freedom` degrees of freedom, infinite for none: a standard error from few
    values is itself uncertain.

    Beyond the table the expansion in 1/freedom (Abramowitz and Stegun 26.7.5), right to four decimals there.
    """
    if freedom < 1:
        return math.inf
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = _Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
