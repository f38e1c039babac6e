"""What tasks return: scores with intervals, in a fraction for GLUE and in percent for SQuAD."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..charts import views
from ..results.evaluation import Evaluation
from ..results.markup import box, figure, table

Ends = list[float]


class TaskScores(Evaluation):
    """A metric is a field of that name; NAME_interval are the ends of its 95% interval by the bootstrap,
    NAME_difference is this model less the other one, where there is one, with an interval too.
    """

    UNIT: ClassVar[str]

    @property
    def metrics(self) -> list[str]:
        """The names of what was measured."""
        names = {each.name for each in fields(self)}  # type: ignore[arg-type]
        return [name for name in self if f"{name}_interval" in names and not name.endswith("_difference")]

    def _frame_rows(self) -> list[dict[str, Any]]:
        rows = []
        for name in self.metrics:
            row: dict[str, Any] = {"metric": name, "value": self[name]}
            for what, prefix in ((name, ""), (f"{name}_difference", "difference_")):
                if prefix and what in self:
                    row["difference"] = self[what]
                if f"{what}_interval" in self:
                    row[f"{prefix}low"], row[f"{prefix}high"] = self[f"{what}_interval"]
            rows.append(row)
        return rows

    def plot(self) -> Any:
        """A matplotlib figure: each metric with its interval."""
        rows = self._frame_rows()
        names = [row["metric"] for row in rows]
        values = [(row["value"], row.get("low"), row.get("high")) for row in rows]
        return views.intervals(names, values, self.UNIT)

    def _repr_html_(self) -> str:
        def within(name: str) -> str:
            ends = self.get(f"{name}_interval")
            return f"{figure(ends[0], 4)} to {figure(ends[1], 4)}" if ends else ""

        rows = [[name.replace("_", " "), figure(self[name], 4), within(name)] for name in self.metrics]
        for name in self.metrics:
            if f"{name}_difference" in self:
                less = f"{name}_difference"
                rows.append([less.replace("_", " "), f"{self[less]:+.4g}", within(less)])
        counts = [f"{name.replace('_', ' ')}: {v:,}" for name, v in self.items() if isinstance(v, int)]
        return box(type(self).__name__, table(rows, ["", self.UNIT, "95% interval"]), ", ".join(counts))


@dataclass(frozen=True, eq=False, repr=False)
class GlueScores(TaskScores):
    """Of `glue.evaluate`: the task's metrics, from 0 to 1 (correlations from -1), and `score`, their mean."""

    f1: float | None = None
    f1_interval: Ends | None = None
    accuracy: float | None = None
    accuracy_interval: Ends | None = None
    matthews: float | None = None
    matthews_interval: Ends | None = None
    pearson: float | None = None
    pearson_interval: Ends | None = None
    spearman: float | None = None
    spearman_interval: Ends | None = None
    score: float | None = None
    score_interval: Ends | None = None
    f1_difference: float | None = None
    f1_difference_interval: Ends | None = None
    accuracy_difference: float | None = None
    accuracy_difference_interval: Ends | None = None
    matthews_difference: float | None = None
    matthews_difference_interval: Ends | None = None
    pearson_difference: float | None = None
    pearson_difference_interval: Ends | None = None
    spearman_difference: float | None = None
    spearman_difference_interval: Ends | None = None
    score_difference: float | None = None
    score_difference_interval: Ends | None = None

    UNIT: ClassVar[str] = "of 1"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SquadScores(TaskScores):
    """Of `squad.evaluate`, in percent: exact match and F1; total questions and those without a prediction,
    `missing`; of sets with questions that have no answer also those of either kind.
    """

    exact: float
    exact_interval: Ends | None = None
    f1: float
    f1_interval: Ends | None = None
    exact_difference: float | None = None
    exact_difference_interval: Ends | None = None
    f1_difference: float | None = None
    f1_difference_interval: Ends | None = None
    total: int
    missing: int
    answerable_total: int | None = None
    answerable_exact: float | None = None
    answerable_f1: float | None = None
    unanswerable_total: int | None = None
    unanswerable_exact: float | None = None
    unanswerable_f1: float | None = None

    UNIT: ClassVar[str] = "percent"
