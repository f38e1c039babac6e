"""From the logits of a span head to answers: the best span over all windows of a question, against the score
of no answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ...checks import check_choice, check_int
from ...errors import DataError
from .data import Question
from .metrics import scores
from .windows import Window

Logits = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Span(NamedTuple):
    """Characters start to end of the context, their text, and the sum of both logits."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class SpanAnswer:
    """spans: the best ones, best first, none for a question without any that is allowed. null_score: the sum
    of both logits of token 0, the lowest over the windows: no answer in any of them.
    """

    id: str
    spans: list[Span]
    null_score: float

    @property
    def null_odds(self) -> float:
        """How much better no answer is than the best span."""
        return self.null_score - (self.spans[0].score if self.spans else -math.inf)


class Threshold(NamedTuple):
    """What `tune_threshold` finds: a threshold for `with_threshold` and its score in percent."""

    threshold: float
    score: float


def best_spans(
    questions: Sequence[Question],
    windows: Sequence[Window],
    logits: Sequence[Logits],
    *,
    n_best: int = 20,
    max_answer_tokens: int = 30,
) -> list[SpanAnswer]:
    """The best spans of each question. logits: (start, end), float32 [T] each, one pair a window.

    A span begins and ends at one of the `n_best` highest start and end logits of a window, ends no earlier
    than it begins, is at most `max_answer_tokens` long, and begins in the window where its first token has
    the most context. Raises DataError for logits of the wrong number or shape.
    """
    check_int("n_best", n_best)
    check_int("max_answer_tokens", max_answer_tokens)
    if len(windows) != len(logits):
        raise DataError(f"logits has {len(logits)} pairs; allowed: {len(windows)}, one a window")
    found: list[dict[tuple[int, int], float]] = [{} for _ in questions]
    null = [math.inf] * len(questions)
    for i, (window, (start, end)) in enumerate(zip(windows, logits, strict=True)):
        if not (start.shape == end.shape == window.tokens.shape):
            raise DataError(
                f"logits[{i}] have shapes {start.shape}, {end.shape}; "
                f"allowed: {window.tokens.shape}, as the window"
            )
        q = window.question
        null[q] = min(null[q], float(start[0]) + float(end[0]))
        for first, last, score in _pairs(window, start, end, n_best, max_answer_tokens):
            place = (int(window.spans[first, 0]), int(window.spans[last, 1]))
            found[q][place] = max(score, found[q].get(place, -math.inf))
    answers = []
    for question, candidates, nothing in zip(questions, found, null, strict=True):
        if nothing == math.inf:
            raise DataError(f"question {question.id!r} has no window; allowed: 1 or more")
        ranked = sorted(candidates.items(), key=lambda item: (-item[1], item[0]))[:n_best]
        spans = [Span(question.context[a:b].strip(), a, b, score) for (a, b), score in ranked]
        answers.append(SpanAnswer(question.id, spans, nothing))
    return answers


def _pairs(
    window: Window, start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], n_best: int, longest: int
) -> list[tuple[int, int, float]]:
    """(first token, last token, score) of all allowed spans of one window."""
    context = window.spans[:, 0] >= 0
    firsts = _top(start, context & window.widest, n_best)
    lasts = _top(end, context, n_best)
    first, last = (grid.reshape(-1) for grid in np.meshgrid(firsts, lasts))
    fine = (last >= first) & (last - first < longest)
    score = start[first].astype(np.float64) + end[last].astype(np.float64)
    return [(int(a), int(b), float(s)) for a, b, s in zip(first[fine], last[fine], score[fine], strict=True)]


def _top(
    values: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_], count: int
) -> npt.NDArray[np.int64]:
    places = np.flatnonzero(allowed)
    return places[np.argsort(-values[places], kind="stable")[:count]]


def with_threshold(answers: Sequence[SpanAnswer], threshold: float | None) -> dict[str, str]:
    """{id: text}: the best span, or "" where no answer is better than it by more than `threshold` (None: a
    span always, where there is one, as SQuAD 1.1 has it).
    """
    return {
        answer.id: ""
        if not answer.spans or (threshold is not None and answer.null_odds > threshold)
        else answer.spans[0].text
        for answer in answers
    }


def tune_threshold(
    questions: Sequence[Question], answers: Sequence[SpanAnswer], metric: Literal["exact", "f1"] = "f1"
) -> Threshold:
    """(threshold, score in percent): the best threshold for `with_threshold` on these questions, the lowest
    of equals. Tune it on other questions than those that are reported, or say so. Raises ConfigError,
    DataError.
    """
    check_choice("metric", metric, ("exact", "f1"))
    if not questions:
        raise DataError("questions is empty; allowed: 1 or more")
    which = ("exact", "f1").index(metric)
    kept = scores(questions, with_threshold(answers, None))[which]
    nothing = scores(questions, dict.fromkeys((question.id for question in questions), ""))[which]
    odds_of: Mapping[str, float] = {answer.id: answer.null_odds for answer in answers}
    odds = np.array([odds_of.get(question.id, math.inf) for question in questions])
    order = np.argsort(odds, kind="stable")
    odds, gain = odds[order], (kept - nothing)[order]
    # threshold odds[k - 1] keeps the spans of the first k, and of all that equal the last of them
    total = nothing.sum() + np.concatenate([[0.0], np.cumsum(gain)])
    ends = np.flatnonzero(np.append(odds[1:] != odds[:-1], True)) + 1
    steps = np.concatenate([[0], ends])
    best = int(steps[total[steps].argmax()])
    if best == 0:
        threshold = float(np.nextafter(odds[0], -math.inf))
    else:
        threshold = float(odds[best - 1])
    return Threshold(threshold, float(100.0 * total[best] / len(questions)))
