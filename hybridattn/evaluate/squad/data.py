"""SQuAD's JSON: articles of paragraphs of questions, each with the answers that several people gave."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...reading import read_json


@dataclass(frozen=True)
class Question:
    """answers: the texts that people gave, not made unique; none for a question that the context does not
    answer. starts: the character in the context where each begins; empty where a set does not tell.
    """

    id: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, text in (("context", self.context), ("question", self.question)):
            if not isinstance(text, str):
                raise DataError(f"{name} of question {self.id!r} is {text!r:.80}; allowed: a text")
        if not all(isinstance(text, str) for text in self.answers):
            raise DataError(f"answers of question {self.id!r} is {self.answers!r:.80}; allowed: texts")

    @property
    def answerable(self) -> bool:
        """The context holds an answer."""
        return bool(self.answers)


@dataclass(frozen=True)
class SquadData:
    """The questions of one file, in its order. skipped: answers that are damaged or not in the context where
    they should be; they were left out, with a question that had no other.
    """

    version: str
    questions: list[Question]
    skipped: int = 0

    @property
    def has_no_answers(self) -> bool:
        """Some questions have no answer, as in SQuAD 2.0."""
        return not all(question.answerable for question in self.questions)


def read(path: str | os.PathLike[str], *, strict: bool = False) -> SquadData:
    """Read a file of SQuAD's layout and check all of it.

    Raises DataError of one line that names file, question and field: a field that is missing or of the wrong
    type, a question with is_impossible and answers (or neither), an id that comes twice. An answer that is
    damaged, or not in the context where it should be, is skipped and counted, and an id that is a whole
    number is taken as its text; with `strict` these are errors too.
    """
    source = Path(path)
    try:
        root = read_json(source, DataError)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}") from None
    file = _Node(str(source), root)
    version = root.get("version", "") if isinstance(root, dict) else ""
    questions: list[Question] = []
    seen: set[str] = set()
    skipped = 0
    for a, article in enumerate(file.nodes("data", "data")):
        title = article.data.get("title", "")
        for p, paragraph in enumerate(article.nodes("paragraphs", f"data[{a}].paragraphs")):
            context = paragraph.text("context")
            for question in paragraph.nodes("qas", f"data[{a}].paragraphs[{p}].qas"):
                found, lost = _question(question, str(source), str(title), context, strict)
                if found.id in seen:
                    raise DataError(f"{source}: question {found.id!r}: id comes twice")
                seen.add(found.id)
                skipped += lost
                if found.answers or not lost:
                    questions.append(found)
    if not questions:
        raise DataError(
            f"{source}: data holds no questions{f', all {skipped} answers being damaged' if skipped else ''}"
        )
    return SquadData(str(version), questions, skipped)


def _question(node: _Node, source: str, title: str, context: str, strict: bool) -> tuple[Question, int]:
    """(the question, how many of its answers were skipped)."""
    number = node.data.get("id")
    whole = isinstance(number, int) and not isinstance(number, bool) and not strict
    identity = str(number) if whole else node.text("id")
    node.where = f"{source}: question {identity!r}"
    text = node.text("question")
    impossible = node.data.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise DataError(f"{node.where}: is_impossible is {impossible!r}; allowed: true, false")
    answers, starts, skipped = [], [], 0
    for i, answer in enumerate(node.nodes("answers", "answers", node.where)):
        try:
            found, start = _answer(answer, f"{node.where}: answers[{i}]", context)
        except DataError:
            if strict:
                raise
            skipped += 1
            continue
        answers.append(found)
        starts.append(start)
    if impossible == bool(answers or skipped):
        raise DataError(
            f"{node.where}: is_impossible is {impossible} with {len(answers) + skipped} answers; "
            "allowed: answers, or is_impossible"
        )
    return Question(identity, title, context, text, tuple(answers), tuple(starts)), skipped


def _answer(answer: _Node, where: str, context: str) -> tuple[str, int]:
    """(text, the character where it begins), which the context has there; else DataError."""
    found, start = answer.text("text"), answer.data.get("answer_start")
    if isinstance(start, bool) or not isinstance(start, int):
        raise DataError(f"{where}.answer_start is {start!r}; allowed: a whole number")
    if not found or start < 0 or context[start : start + len(found)] != found:
        there = context[max(start, 0) : max(start, 0) + len(found)]
        raise DataError(
            f"{where}.text is {found[:60]!r}, but the context has {there[:60]!r} at character {start}"
        )
    return found, start


class _Node:
    """An object of the file, and how errors name it."""

    def __init__(self, where: str, data: Any) -> None:
        if not isinstance(data, dict):
            raise DataError(f"{where} is a {type(data).__name__}; allowed: an object")
        self.where, self.data = where, data

    def text(self, field: str) -> str:
        value = self.data.get(field)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: no text in field {field!r}")
        return value

    def nodes(self, field: str, path: str, where: str | None = None) -> list[_Node]:
        value = self.data.get(field)
        if not isinstance(value, list):
            raise DataError(f"{self.where}: no list in field {field!r}")
        base = where or self.where.partition(": ")[0]
        return [_Node(f"{base}: {path}[{i}]", item) for i, item in enumerate(value)]
