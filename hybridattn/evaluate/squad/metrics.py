"""Exact match and F1 by SQuAD's published rules, those of 2.0, which give what those of 1.1 give where every
question has an answer.

Answers are compared after lower case, without ASCII punctuation, without the words a, an, the, and with
single spaces. A question's score is the best over its golds; golds that are nothing after this count only
when all are. F1 is of bags of words. When a side is empty, both scores are 1 if both are, else 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ...stats import bootstrap_many
from ..task_results import SquadScores
from .data import Question

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize(text: str) -> str:
    """What is compared: see the module."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 when both are the same after normalisation, else 0."""
    return float(normalize(prediction) == normalize(gold))


def f1(prediction: str, gold: str) -> float:
    """F1 of the words that both have in common, each as often as it comes."""
    mine, right = normalize(prediction).split(), normalize(gold).split()
    if not mine or not right:
        return float(mine == right)
    both = sum((Counter(mine) & Counter(right)).values())
    return 2.0 * both / (len(mine) + len(right))


def scores(
    questions: Sequence[Question], predictions: Mapping[str, str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(exact matches, F1), float64 [questions] of 0 to 1. A question without a prediction scores 0."""

    def best(metric: Callable[[str, str], float], question: Question) -> float:
        if question.id not in predictions:
            return 0.0
        golds = [gold for gold in question.answers if normalize(gold)] or [""]
        return max(metric(predictions[question.id], gold) for gold in golds)

    return (
        np.array([best(exact_match, question) for question in questions]),
        np.array([best(f1, question) for question in questions]),
    )


def evaluate(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    *,
    against: Mapping[str, str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> SquadScores:
    """exact and f1 in percent over all questions, with exact_interval and f1_interval of 95% by the bootstrap
    over questions; total; missing (questions without a prediction, which score 0).

    With questions that have no answer also answerable_ and unanswerable_ exact, f1 and total ("" is the
    right prediction for those). against: another model's predictions; adds exact_difference and
    f1_difference (this less the other) with intervals, drawn in pairs. Raises DataError for predictions of
    unknown questions, or that are no text.
    """
    if not questions:
        raise DataError("questions is empty; allowed: 1 or more")
    known = {question.id for question in questions}
    for name, answers in (("predictions", predictions), ("against", against or {})):
        if not isinstance(answers, Mapping):
            raise DataError(f"{name} is {answers!r:.80}; allowed: texts by the questions' ids")
        for key, answer in answers.items():
            if key not in known:
                raise DataError(f"{name} answer the question {key!r}; allowed: ids of the questions")
            if not isinstance(answer, str):
                raise DataError(
                    f'{name} of question {key!r} is {answer!r:.80}; allowed: a text, "" for no answer'
                )
    columns = dict(zip(("exact", "f1"), scores(questions, predictions), strict=True))
    if against is not None:
        other = dict(zip(("exact", "f1"), scores(questions, against), strict=True))
        columns |= {f"{name}_difference": columns[name] - other[name] for name in other}
    table = np.stack(list(columns.values()), axis=1) * 100.0
    if resamples:
        drawn = bootstrap_many(
            lambda i: table[i].mean(axis=0).tolist(), len(table), resamples=resamples, seed=seed
        )
        found: dict[str, Any] = {}
        for name, interval in zip(columns, drawn, strict=True):
            found |= {name: interval.value, f"{name}_interval": [interval.low, interval.high]}
    else:
        found = dict(zip(columns, table.mean(axis=0).tolist(), strict=True))
    found |= {"total": len(questions), "missing": len(known - predictions.keys())}
    answerable = np.array([question.answerable for question in questions])
    if not answerable.all():
        for name, chosen in (("answerable", answerable), ("unanswerable", ~answerable)):
            part = table[chosen, :2]
            found[f"{name}_total"] = len(part)
            if len(part):
                found |= {f"{name}_exact": float(part[:, 0].mean()), f"{name}_f1": float(part[:, 1].mean())}
    return SquadScores(**found)
