"""Answers that a decoder writes after a prompt, greedily, up to the end of the line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...checks import check_int
from ...data.prompts import open_tokens
from ...distributed.pieces import spread
from ...model.base import tokenizer_of
from ...model.generate import generate_texts
from ...model.likelihood import fit
from ...results.progress import bar
from .data import Question
from .metrics import normalize

if TYPE_CHECKING:
    from ...model.model import Model

NO_ANSWER = "unanswerable"


def prompt(question: Question, *, no_answer: bool = False) -> str:
    """The context, a line "Question: " and the question, and "Answer:". With `no_answer` a line says to
    answer "unanswerable" where the text does not tell.
    """
    instruction = (
        f"If the text does not answer the question, the answer is: {NO_ANSWER}\n" if no_answer else ""
    )
    return f"{question.context.strip()}\n{instruction}Question: {question.question.strip()}\nAnswer:"


def answer(
    model: Model,
    questions: Sequence[Question],
    *,
    no_answer: bool = False,
    shots: Sequence[Question] = (),
    max_new_tokens: int = 32,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, str]:
    """{id: answer}: the first line of the greedy continuation of each prompt. "" (no answer) for an empty
    line and, with `no_answer`, for "unanswerable".

    shots: questions that go before each one with their first answer. A prompt that is longer than the model's
    positions loses its beginning. Raises ConfigError, DataError.
    """
    check_int("max_new_tokens", max_new_tokens)
    check_int("batch_size", batch_size)
    tokenizer = tokenizer_of(model)
    before = "".join(
        f"{prompt(shot, no_answer=no_answer)} {shot.answers[0] if shot.answers else NO_ANSWER}\n\n"
        for shot in shots
    )
    out: dict[str, str] = {}

    def work(at: int) -> dict[str, str]:
        batch = questions[at : at + batch_size]
        texts = [open_tokens(tokenizer, before + prompt(q, no_answer=no_answer)) for q in batch]
        prompts = [fit(model, text, max_new_tokens) for text in texts]
        made = generate_texts(model, prompts, max_new_tokens=max_new_tokens, stop="\n")
        lines = [text.strip() for text in made]
        return {
            question.id: "" if no_answer and normalize(line) == NO_ANSWER else line
            for question, line in zip(batch, lines, strict=True)
        }

    steps = range(0, len(questions), batch_size)
    for answers in spread(steps, work, lambda mine: bar(mine, "answers", progress), "batches of questions"):
        out |= answers
    return out
