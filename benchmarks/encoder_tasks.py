"""What the encoder's table asks: sentences to classify and spans to find, as examples and judged answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hybridattn import choices, glue, squad, tasks
from hybridattn.evaluate.glue.tsv import read_file


class Sentences:
    """Single sentences of two classes. `name`: how the table calls them."""

    head: ClassVar = {"kind": "classify", "num_labels": 2}
    batch, epochs, shown = 32, 2.0, ("score",)
    share = 1.0  # of the steps that are asked for

    def __init__(self, name: str, task: glue.Task, train: list[glue.Example], held: list[glue.Example]):
        self.name, self.task = name, task
        self._parts = train, held

    @classmethod
    def sst2(cls, path: Path, train: int, held: int) -> Sentences:
        """GLUE's training file of SST-2: the last of its rows, after a seeded shuffle, are held out."""
        task = glue.task_named("SST-2")
        drawn = choices.draw_some(read_file(task, path, "train").examples, 1 << 30, 0)
        asked = drawn[-held:]
        known = {example.text_a.strip() for example in asked}
        rest = [example for example in drawn[:-held] if example.text_a.strip() not in known]
        return cls("SST-2", task, rest[:train], asked)

    @classmethod
    def movie_reviews(cls, train: int, held: int) -> Sentences:
        """The built-in sentences of film reviews."""
        whole = glue.builtin("movie_reviews", "train")
        asked = choices.draw_some(glue.builtin("movie_reviews").examples, held, 0)
        drawn = choices.draw_some(whole.examples, train, 0)
        return cls("movie_reviews", whole.task, drawn, asked)

    def examples(self, tokenizer) -> tuple[tasks.Examples, tasks.Examples]:
        """(to train on, held out)."""
        made = [
            tasks.Examples.of(
                tokenizer.encode_batch([e.text_a for e in part]), np.array([e.label for e in part])
            )
            for part in self._parts
        ]
        return made[0], made[1]

    def judge(self, model, held: tasks.Examples, against: Any) -> tuple[dict[str, Any], Any]:
        """(scores of 0 to 100 with intervals, predictions)."""
        got = tasks.predict(model, held).argmax(-1).tolist()
        found = glue.evaluate(self.task, got, held.labels.tolist(), against=against)
        return {k: (np.array(v) * 100.0).tolist() for k, v in found.items()}, got


class Spans:
    """Disfl-QA: the span of a passage that answers a question with a slip of the tongue; no passage is both
    trained on and asked about. Questions without an answer, or whose answer is not spelt as in the passage,
    are left out of training; those without an answer of asking too.
    """

    name = "disfl_qa"
    head: ClassVar = {"kind": "span"}
    batch, epochs, shown = 8, 4.0, ("exact", "f1")
    share = 0.4  # its steps are of windows, ten times as long as sentences

    def __init__(self, train: int, held: int):
        drawn = choices.draw_some(squad.builtin("disfl_qa").questions, 1 << 30, 0)
        passages = list(dict.fromkeys(question.context for question in drawn))
        asked, told = set(passages[: len(passages) // 4]), []
        self._asked = [q for q in drawn if q.context in asked and q.answers][:held]
        for question in drawn:
            start = question.context.find(question.answers[0]) if question.answers else -1
            if start >= 0 and question.context not in asked:
                told.append(replace(question, starts=(start,)))
        self._told = told[:train]

    def examples(self, tokenizer) -> tuple[tasks.Examples, tasks.Examples]:
        """(to train on, held out), windows of 384 tokens."""
        self._windows = squad.windows(self._asked, tokenizer)
        train = [w for w in squad.windows(self._told, tokenizer) if w.end]  # those that hold the answer
        return tuple(
            tasks.Examples.of(
                [w.tokens for w in part],
                np.array([(w.start, w.end) for w in part]),
                segments=[w.type_ids for w in part],
            )
            for part in (train, self._windows)
        )

    def judge(self, model, held: tasks.Examples, against: Any) -> tuple[dict[str, Any], Any]:
        """(exact match and F1 with intervals, percent, and answers)."""
        logits = [(found[:, 0], found[:, 1]) for found in tasks.predict(model, held)]
        best = squad.best_spans(self._asked, self._windows, logits)
        answers = squad.with_threshold(best, None)
        return squad.evaluate(self._asked, answers, against=against), answers
