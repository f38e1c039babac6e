"""GLUE's metrics, from scikit-learn and scipy, and its average."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_choice
from ...errors import DataError, HybridAttnError
from ...stats import bootstrap_many
from ..task_results import GlueScores
from .tasks import TASKS, Task

Labels = npt.NDArray[np.float64]
_NEEDS = "GLUE's metrics need scikit-learn and scipy: pip install hybridattn[eval]"


def _sklearn() -> Any:
    try:
        import sklearn.metrics
    except ImportError:
        raise HybridAttnError(_NEEDS) from None
    return sklearn.metrics


def _scipy() -> Any:
    try:
        import scipy.stats
    except ImportError:
        raise HybridAttnError(_NEEDS) from None
    return scipy.stats


def _correlation(name: str, gold: Labels, predicted: Labels) -> float:
    """0 for constant predictions, as Matthews has it; NaN for constant labels, which say nothing."""
    if len(gold) < 2 or np.ptp(gold) == 0.0:
        return np.nan
    if np.ptp(predicted) == 0.0:
        return 0.0
    return float(getattr(_scipy(), name)(predicted, gold)[0])


METRICS: dict[str, Callable[[Labels, Labels], float]] = {
    "accuracy": lambda gold, predicted: float(_sklearn().accuracy_score(gold, predicted)),
    "f1": lambda gold, predicted: float(_sklearn().f1_score(gold, predicted, pos_label=1, zero_division=0.0)),
    "matthews": lambda gold, predicted: float(_sklearn().matthews_corrcoef(gold, predicted)),
    "pearson": lambda gold, predicted: _correlation("pearsonr", gold, predicted),
    "spearman": lambda gold, predicted: _correlation("spearmanr", gold, predicted),
}


def check_metrics(task: Task) -> None:
    """ConfigError for a metric that is not known, HybridAttnError when what they need is not installed: to
    call before work that takes long.
    """
    for name in task.metrics:
        check_choice("metric", name, list(METRICS))
    _sklearn()
    _scipy()


def evaluate(
    task: Task,
    predictions: Sequence[int | float],
    labels: Sequence[int | float],
    *,
    against: Sequence[int | float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> GlueScores:
    """The task's metrics, of 0 to 1 (correlations -1 to 1), metric_interval: [low, high] of 95% for each,
    and `score`, their mean, by the bootstrap over examples.

    F1 is of label 1 ("equivalent", "duplicate"). against: another model's predictions on the same examples,
    such as the teacher's: adds metric_difference (this model less the other) and metric_difference_interval,
    drawn in pairs. resamples 0: no intervals. Raises DataError for lists of unlike lengths, empty ones, and
    values that are no labels of the task.
    """
    gold, mine = task.check("labels", labels), task.check("predictions", predictions)
    other = None if against is None else task.check("against", against)
    if not len(gold):
        raise DataError("labels is empty; allowed: 1 or more")
    for name, values in (("predictions", mine), ("against", other)):
        if values is not None and values.shape != gold.shape:
            raise DataError(f"{name} has {len(values)} rows; allowed: {len(gold)}, as labels")
    check_metrics(task)

    names = [*task.metrics, "score"]
    if other is not None:
        names += [f"{name}_difference" for name in names]

    def metrics_of(i: npt.NDArray[np.int64]) -> list[float]:
        found = _with_score(task, gold[i], mine[i])
        if other is not None:
            theirs = _with_score(task, gold[i], other[i])
            found += [a - b for a, b in zip(found, theirs, strict=True)]
        return found

    with warnings.catch_warnings():  # draws of a single label
        warnings.simplefilter("ignore")
        if not resamples:
            plain: dict[str, Any] = dict(zip(names, metrics_of(np.arange(len(gold))), strict=True))
            return GlueScores(**plain)
        intervals = bootstrap_many(metrics_of, len(gold), resamples=resamples, seed=seed)
    found: dict[str, Any] = {}
    for name, interval in zip(names, intervals, strict=True):
        found |= {name: interval.value, f"{name}_interval": [interval.low, interval.high]}
    return GlueScores(**found)


def _with_score(task: Task, gold: Labels, predicted: Labels) -> list[float]:
    """The task's metrics, and their mean."""
    values = [METRICS[name](gold, predicted) for name in task.metrics]
    return [*values, float(np.mean(values))]


def task_score(task: Task, scores: Mapping[str, float]) -> float:
    """The one number of a task: the plain mean of its metrics."""
    missing = [name for name in task.metrics if name not in scores]
    if missing:
        raise DataError(f"scores of {task.name} hold no {missing[0]!r}; allowed: {', '.join(task.metrics)}")
    return float(np.mean([scores[name] for name in task.metrics]))


def average(scores: Mapping[str, Mapping[str, float]]) -> float:
    """GLUE's average of {task: {metric: value}}: first the metrics of a task are averaged (MRPC, QQP: F1 and
    accuracy; STS-B: Pearson and Spearman), then MNLI matched and mismatched, which are one task, then the
    nine tasks, all with equal weights and none left out, WNLI too.

    Raises DataError naming the tasks that are missing: an average over fewer tasks is not GLUE's.
    """
    missing = [name for name in TASKS if name not in scores]
    if missing:
        raise DataError(f"scores hold no {', '.join(missing)}; allowed: all of {', '.join(TASKS)}")
    by_task = {name: task_score(task, scores[name]) for name, task in TASKS.items()}
    by_task["MNLI"] = (by_task["MNLI"] + by_task.pop("MNLI-mm")) / 2
    return float(np.mean(list(by_task.values())))
