"""Classification by a decoder without a head: which label's name is the most likely after a prompt (Brown et
al. 2020, arXiv 2005.14165), with no examples before it or a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_int, refuse
from ..data.prompts import encode_pair
from ..errors import DataError
from ..lazy import contents
from ..model.base import tokenizer_of
from ..model.likelihood import common, continuations, fit
from ..results.evaluation import Evaluation

if TYPE_CHECKING:
    from ..model.model import Model
    from .glue.tasks import Example, Split

__all__ = ["NORMALIZE", "Classified", "Item", "Prompt", "classify", "draw", "draw_some"]
__dir__ = contents(__name__)


Item = TypeVar("Item")
NORMALIZE = ("none", "tokens", "bytes")


@dataclass(frozen=True)
class Prompt:
    """template: with {text_a} and {text_b}. choices: the text that stands for each label, usually from its
    space on. values: of a regression task, the number that each choice stands for; the prediction is then
    their mean by the choices' probabilities. separator: between examples, and before the question.
    """

    template: str
    choices: tuple[str, ...]
    values: tuple[float, ...] = ()
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or not all(self.choices):
            raise refuse("choices", self.choices, "two texts or more, none empty")
        if self.values and len(self.values) != len(self.choices):
            raise refuse("values", self.values, f"{len(self.choices)} numbers, as choices, or none")
        try:
            self.template.format(text_a="", text_b="")
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise refuse("template", self.template, "text with {text_a} and {text_b}") from None

    def ask(self, example: Example) -> str:
        """The prompt of one example, without an answer. DataError for an example without a text."""
        for name in ("text_a", "text_b"):
            text = getattr(example, name)
            if not isinstance(text, str) and f"{{{name}" in self.template:
                raise DataError(f"{name} of example {example.id} is {text!r:.80}; allowed: a text")
        return self.template.format(text_a=example.text_a, text_b=example.text_b or "")

    def answered(self, example: Example) -> str:
        """The prompt with its right answer, an example for others. Of a regression, the nearest choice."""
        if example.label is None:
            raise DataError(f"label of example {example.id} is None; allowed for a shot: a label")
        at = example.label
        if self.values:
            at = int(np.abs(np.array(self.values) - at).argmin())
        return self.ask(example) + self.choices[int(at)]


@dataclass(frozen=True, eq=False, repr=False)
class Classified(Evaluation):
    """predictions: a label index (or, with values, a number) an example. scores: float64 [n, choices] of
    log p, normalised as asked. truncated: prompts that lost their beginning, being longer than the model's
    positions.
    """

    predictions: list[int | float]
    scores: npt.NDArray[np.float64]
    truncated: int


def classify(
    model: Model,
    split: Split,
    prompt: Prompt,
    *,
    shots: int = 0,
    pool: Split | None = None,
    seed: int = 0,
    normalize: str = "none",
    batch_size: int = 8,
    progress: bool = False,
) -> Classified:
    """The most likely choice for each example of a split; the first of equals.

    shots: so many answered examples of `pool` (such as the training split) before each question, drawn once
    by `seed`, by turns of every label as far as there are some. normalize: "none" for log p of a choice,
    "tokens" or "bytes" to divide it by its length, for choices of unlike lengths. Raises ConfigError,
    DataError.
    """
    check_choice("normalize", normalize, NORMALIZE)
    check_int("batch_size", batch_size)
    if not len(split):
        raise DataError(f"{split.task.name} {split.name} has no examples; allowed: 1 or more")
    tokenizer = tokenizer_of(model)
    if prompt.values == () and len(prompt.choices) != split.task.num_labels:
        raise refuse("choices", prompt.choices, f"{split.task.num_labels}, the labels of {split.task.name}")
    before = "".join(
        prompt.answered(example) + prompt.separator
        for example in draw(check_int("shots", shots, 0), pool, seed)
    )
    prompts, choices, truncated = [], [], 0
    for example in split.examples:
        question = before + prompt.ask(example)
        pairs = [encode_pair(tokenizer, question, choice) for choice in prompt.choices]
        # where a choice merges with the context's end, the context is cut before the merge for all
        start = pairs[0][0][: common([context for context, _ in pairs])]
        tails = [context[len(start) :] + choice for context, choice in pairs]
        fitted = fit(model, start, max(map(len, tails)) - 1)
        truncated += len(fitted) < len(start)
        prompts.append(fitted)
        choices.append(tails)
    found = continuations(
        model, prompts, choices, batch_size=batch_size, progress=progress, label=split.task.name
    )
    scores = np.array([[choice.logprob for choice in row] for row in found], np.float64)
    if normalize == "tokens":
        scores /= np.array([[choice.tokens for choice in row] for row in found])
    elif normalize == "bytes":
        scores /= [len(choice.encode()) for choice in prompt.choices]
    return Classified(_predictions(scores, prompt.values), scores, truncated)


def draw(shots: int, pool: Split | None, seed: int) -> list[Example]:
    """So many examples of a split, by turns of every label in a drawn order. The first ones of more shots are
    those of fewer.
    """
    if not shots:
        return []
    if pool is None or len(pool) < shots:
        raise refuse("shots", shots, f"0 to {0 if pool is None else len(pool)}, the examples to draw from")
    order = draw_some(pool.examples, len(pool), seed)
    if pool.task.regression:
        return order[:shots]
    turn: dict[int | float | None, int] = {}
    ranked = []
    for place, example in enumerate(order):
        rank = turn.get(example.label, 0)
        turn[example.label] = rank + 1
        ranked.append((rank, place))
    return [order[place] for _, place in sorted(ranked)[:shots]]


def draw_some(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """So many of the items in a drawn order; the first ones of more are those of fewer."""
    check_int("seed", seed, 0)
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))[:count]]


def _predictions(scores: npt.NDArray[np.float64], values: Sequence[float]) -> list[int | float]:
    if not values:
        return [int(i) for i in scores.argmax(axis=1)]
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return [float(x) for x in weights @ np.array(values) / weights.sum(axis=1)]
