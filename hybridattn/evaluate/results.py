"""What the evaluations return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..charts import views
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
    of causal language models also the student's perplexity and the tokens that it predicted.
    """

    kl: float
    kl_stderr: float
    per_sequence: list[float]
    perplexity: float | None = None
    tokens: int | None = None
    measure: str = "kl"

    _old: ClassVar[dict[str, str]] = {"mean": "kl", "stderr": "kl_stderr", "ppl": "perplexity"}


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Evaluation):
    """Of `agreement`: the share of tokens for which both models hold the same next token likeliest, with its
    standard error over windows.
    """

    agreement: float
    agreement_stderr: float
    per_sequence: list[float]
    tokens: int


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
        """A matplotlib figure: KL from the teacher with its error, or perplexity, a row for each model."""
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
