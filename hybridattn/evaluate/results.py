"""What the evaluations return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..charts import views
from ..charts.views import AGREEMENT_AXIS, KL_AXIS
from ..results.evaluation import Evaluation
from ..results.markup import box, figure, table


@dataclass(frozen=True, eq=False, repr=False)
class Perplexity(Evaluation):
    """Of `perplexity`: exp of nll, nats a token; nll_stderr over windows; tokens that were predicted. Of a
    text also bits_per_byte and word_perplexity.
    """

    perplexity: float
    nll: float
    nll_stderr: float
    tokens: int
    windows: int
    seq_len: int
    stride: int | None
    bits_per_byte: float | None = None
    word_perplexity: float | None = None

    _old: ClassVar[dict[str, str]] = {
        "ppl": "perplexity", "stderr": "nll_stderr", "word_ppl": "word_perplexity",
    }  # fmt: skip
    _always: ClassVar[frozenset[str]] = frozenset({"stride"})


@dataclass(frozen=True, eq=False, repr=False)
class Divergence(Evaluation):
    """Of `kl`: the mean kl, nats a token (or what `measure` says), kl_stderr and per_sequence over windows;
    of causal language models also the student's perplexity and the tokens that it predicted. Of all language
    models the share of tokens for which both hold the same token likeliest, as `Agreement` has it.
    """

    kl: float
    kl_stderr: float
    per_sequence: list[float]
    perplexity: float | None = None
    tokens: int | None = None
    measure: str = "kl"
    agreement: float | None = None
    agreement_stderr: float | None = None
    agreement_per_sequence: list[float] | None = None

    _old: ClassVar[dict[str, str]] = {"mean": "kl", "stderr": "kl_stderr", "ppl": "perplexity"}

    def _frame_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"window": i, "kl": x} for i, x in enumerate(self.per_sequence)]
        for row, share in zip(rows, self.agreement_per_sequence or ()):
            row["agreement"] = share
        return rows

    def plot(self) -> Any:
        """A matplotlib figure: the windows in order, the mean with its error, and the agreement beside it."""
        label = KL_AXIS if self.measure == "kl" else self.measure
        parts = [(label, self.per_sequence, self.kl, self.kl_stderr)]
        if self.agreement is not None and self.agreement_per_sequence is not None:
            shares = self.agreement_per_sequence
            parts.append((AGREEMENT_AXIS, shares, self.agreement, self.agreement_stderr or 0.0))
        return views.windows(parts)


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Evaluation):
    """Of `agreement`: the share of tokens for which both models hold the same next token likeliest, with its
    standard error over windows.
    """

    agreement: float
    agreement_stderr: float
    per_sequence: list[float]
    tokens: int

    def _frame_rows(self) -> list[dict[str, Any]]:
        return [{"window": i, "agreement": share} for i, share in enumerate(self.per_sequence)]

    def plot(self) -> Any:
        """A matplotlib figure: the windows in order, and the mean with its error."""
        return views.windows([(AGREEMENT_AXIS, self.per_sequence, self.agreement, self.agreement_stderr)])


@dataclass(frozen=True, eq=False, repr=False)
class Recall(Evaluation):
    """Of `recall`: the share of answers that match, its standard error, which ones, and the mean -log p of
    their tokens; the settings.
    """

    accuracy: float
    stderr: float
    correct: list[bool]
    answer_nll: float
    task: str
    n: int
    seq_len: int
    seed: int

    def _frame_rows(self) -> list[dict[str, Any]]:
        return [{"prompt": i, "correct": hit} for i, hit in enumerate(self.correct)]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Evaluation):
    """Of `compare`: name -> what was measured of that model, see there."""

    models: dict[str, dict[str, Any]]

    @property
    def columns(self) -> list[str]:
        """What was measured of any of them, in order."""
        return list(dict.fromkeys(name for row in self.models.values() for name in row))

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each model; ImportError without pandas."""
        import pandas

        return pandas.DataFrame.from_dict(self.models, orient="index", columns=self.columns)

    def plot(self) -> Any:
        """A matplotlib figure, a row for each model: KL from the teacher and the agreement with it, each with
        its error, or perplexity.
        """
        return views.comparison(self.models)

    def __repr__(self) -> str:
        rows = [["", *self.columns], *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for name, *rest in rows:
            cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ["", *(name.replace("_", " ") for name in self.columns)]
        return box("Comparison", table(self._rows(), head))

    def _rows(self) -> list[list[str]]:
        def cell(value: Any) -> str:
            return "–" if value is None else figure(value, 4) if isinstance(value, float) else f"{value:,}"

        return [[name, *(cell(row.get(key)) for key in self.columns)] for name, row in self.models.items()]
