"""How much of a ranking is chance, and how alike two rankings are: paired bootstrap, rank correlations,
overlaps.

Everything is exact and small: n is a number of layers or of sequences. Bootstraps are percentile
intervals over `resamples` draws of a seeded generator, so that equal input gives equal output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import stats
from ..checks import check_int, refuse
from ..errors import DataError
from ..lazy import contents, face

if TYPE_CHECKING:
    from .scores import LayerScores

__all__ = [
    "Floats",
    "above",
    "additivity",
    "agreement",
    "by_budget",
    "correlation",
    "jaccard",
    "kendall",
    "paired_difference",
    "spearman",
    "topk_stability",
]
__dir__ = contents(__name__)
__getattr__ = face(__name__, {}, renamed={"bootstrap": "paired_difference"})


Floats = npt.NDArray[np.float64]


# --- two rankings ---


def jaccard(a: Iterable[int], b: Iterable[int]) -> float:
    """Size of the intersection over size of the union; 1 for two empty sets."""
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left | right else 1.0


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Rank correlation of two score vectors [n], ties at their mean rank; NaN when one is constant."""
    x, y = (_mean_ranks(values) for values in _pair(a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm else math.nan


def kendall(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Kendall's tau-b of two score vectors [n]: concordant less discordant pairs, corrected for ties; NaN
    when one is constant.
    """
    x, y = _pair(a, b)
    first, second = np.triu_indices(len(x), 1)
    dx, dy = np.sign(x[first] - x[second]), np.sign(y[first] - y[second])
    norm = math.sqrt(float((dx != 0).sum()) * float((dy != 0).sum()))
    return float(dx @ dy) / norm if norm else math.nan


def correlation(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    measure: Callable[[Floats, Floats], float] = spearman,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """`measure` of two score vectors [n] and its 95% bootstrap interval over the n items: value, low, high.

    Resamples in which the measure does not exist (one vector constant) are left out.
    """
    x, y = _pair(a, b)
    return stats.bootstrap(lambda i: measure(x[i], y[i]), len(x), resamples=resamples, seed=seed)._asdict()


def agreement(scores: Sequence[LayerScores], k: int) -> dict[str, list[list[float]]]:
    """spearman, kendall and jaccard (of the top-k sets) between every two of `scores`, each [n][n]."""
    # uniform has a set for every k and no order: NaN beside every other
    ranks = [s.values if s.method == "uniform" else -s.rank.astype(np.float64) for s in scores]
    tops = [s.top(k) for s in scores]
    return {
        "spearman": [[spearman(a, b) for b in ranks] for a in ranks],
        "kendall": [[kendall(a, b) for b in ranks] for a in ranks],
        "jaccard": [[jaccard(a, b) for b in tops] for a in tops],
    }


# --- chance ---


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    resamples: int = 10_000,
    seed: int = 0,
    tokens: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Is a above b on the same sequences? a, b [m]; tokens [m]: what each sequence counts (None: all alike).

    mean and stderr of a - b, its 95% bootstrap interval (low, high), and `above`, the share of resamples in
    which the mean of a is larger (half of a tie). Raises DataError for fewer than two sequences.
    """
    x, y = _pair(a, b)
    if len(x) < 2:
        raise DataError(f"a, b hold {len(x)} sequences; allowed: 2 or more")
    shares = np.ones(len(x)) if tokens is None else np.asarray(tokens, np.float64)
    means = _resampled(x - y, shares, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    mean, stderr = stats.mean((x - y).tolist(), shares.tolist())
    return {
        "mean": mean,
        "stderr": stderr,
        "low": float(low),
        "high": float(high),
        "above": float(((means > 0) + 0.5 * (means == 0)).mean()),
    }


def above(scores: LayerScores, a: int, b: int, resamples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """`paired_difference` of layers a and b of one method's scores."""
    for name, layer in (("a", a), ("b", b)):
        if not 0 <= layer < scores.num_layers:
            raise refuse(name, layer, f"0 to {scores.num_layers - 1}")
    return paired_difference(scores.per_sequence[a], scores.per_sequence[b], resamples, seed, scores.tokens)


def topk_stability(scores: LayerScores, k: int, splits: int = 1000, seed: int = 0) -> dict[str, Any]:
    """How far two texts agree on the top-k set: overlap of the sets that two halves of the sequences choose,
    over `splits` random halvings.

    The halves have no sequence in common, so this is what other text of half the size would have chosen;
    whole texts agree more. A bootstrap would look firmer than it is: two thirds of a resample are the same.

    Returns `jaccard` (mean overlap, 1 = always the same set; k of n layers at random share about
    k / (2 n - k)), `low` and `high` (its 5% and 95% quantiles over halvings), `inclusion` [num_layers], the
    share of halves in which each layer is in the set, and `sequences` in a half. Raises DataError for fewer
    than 2 sequences, and for methods whose sets are not those of the highest scores (a search would have to
    be run again for every half).
    """
    _check_means(scores, k, 2)
    half = scores.num_sequences // 2
    rng = np.random.default_rng(seed)
    inclusion = np.zeros(scores.num_layers)
    overlap = np.empty(check_int("splits", splits))
    for r in range(splits):
        drawn = rng.permutation(scores.num_sequences)
        tops = [scores.part(drawn[:half]).top(k), scores.part(drawn[-half:]).top(k)]
        for top in tops:
            inclusion[top] += 1
        overlap[r] = jaccard(*tops)
    low, high = np.quantile(overlap, [0.05, 0.95])
    return {
        "jaccard": float(overlap.mean()),
        "low": float(low),
        "high": float(high),
        "inclusion": (inclusion / (2 * splits)).tolist(),
        "sequences": half,
    }


def by_budget(scores: LayerScores, k: int, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """What the ranking would have been on the first n sequences only, for n in `budgets`, held against
    that on all: sequences, spearman, kendall, jaccard of the top-k sets. Raises as `topk_stability` does.
    """
    _check_means(scores, k, 1)
    found = []
    for n in budgets:
        if not 1 <= n <= scores.num_sequences:
            raise refuse("budgets", n, f"1 to the number of sequences, {scores.num_sequences}")
        part = scores.part(slice(n))
        found.append(
            {
                "sequences": n,
                "spearman": spearman(part.values, scores.values),
                "kendall": kendall(part.values, scores.values),
                "jaccard": jaccard(part.top(k), scores.top(k)),
            }
        )
    return found


def additivity(scores: LayerScores) -> dict[str, float]:
    """Do single-layer scores add up to the KL of the all-linear model? sum_single, all_linear_kl, their
    gap, and the gap as a share of the all-linear KL.
    """
    return {
        "sum_single": scores.sum_single,
        "all_linear_kl": scores.all_linear_kl,
        "gap": scores.additivity_gap,
        "share": scores.additivity_gap / scores.all_linear_kl if scores.all_linear_kl else math.nan,
    }


def _check_means(scores: LayerScores, k: int, sequences: int) -> None:
    if not 1 <= k <= scores.num_layers:
        raise refuse("k", k, f"1 to the number of layers, {scores.num_layers}")
    if scores.num_sequences < sequences or not scores.by_mean:
        raise DataError(
            f"scores by {scores.method!r} hold {scores.num_sequences} sequences"
            f"{' and the order of a search' if scores.searched else ''}; allowed: {sequences} or more, of a "
            "method that keeps the highest scores"
        )


def _resampled(values: Floats, shares: Floats, resamples: int, seed: int) -> Floats:
    """[resamples]: means of values [m] by their shares [m], over m sequences drawn with replacement."""
    m = len(values)
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(rng.integers(0, m, m), minlength=m) for _ in range(resamples)])
    return np.asarray(drawn @ (values * shares) / (drawn @ shares), np.float64)


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(f"a, b have shapes {x.shape}, {y.shape}; allowed: one shape [n]")
    return x, y


def _mean_ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
