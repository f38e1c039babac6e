"""GLUE's TSV files. Quotation marks in them are plain characters, so csv quoting would join rows; a row ends
at a line feed only, since sentences hold other characters that Unicode calls line ends.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from ...checks import check_choice
from ...data.given import given
from ...data.hub import tenth
from ...errors import DataError
from .tasks import Example, Split, Task, task_named


def read(task: str | Task, folder: str | os.PathLike[str], split: str = "validation") -> Split:
    """A split ("train", "validation", "test") of a task from GLUE's files: `folder` holds a folder of the
    task's name (MNLI for both MNLI tasks), or the files themselves. It may also be one file of labelled rows,
    or an address with its checksum (see `data.given`): a tenth of them, by the hash of the text, is the
    validation split then, and the rest the training split.

    Columns are found by name, whatever their order. Rows with too few or too many columns are an error that
    names file and line, but skipped and counted for QQP, whose original training file has some (not of a
    test split: a submission needs every row); so are rows of MNLI without a gold label ("-"). Raises
    DataError, ConfigError.
    """
    task = task_named(task) if isinstance(task, str) else task
    check_choice("split", split, task.files)
    base = given(folder)
    if base.is_file():
        return _part(read_file(task, base), base, split)
    places = [base / name / task.files[split] for name in (task.name, task.name.partition("-mm")[0])]
    places.append(base / task.files[split])
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"{places[0]}: no such file; allowed: a folder with GLUE's files, see `fetch glue`")
    return read_file(task, path, split)


def read_file(task: Task, path: str | os.PathLike[str], split: str = "validation") -> Split:
    """One file of a task. `split` "test": GLUE's test layout, without labels."""
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 text") from None
    secret = split == "test"
    header = () if secret else task.header
    columns = list(header) or lines[0].rstrip("\r").split("\t")
    text_a, text_b = _column(path, columns, task.text_a), None
    if task.text_b is not None:
        text_b = _column(path, columns, task.text_b)
    label = None if secret else _column(path, columns, task.label)
    identity = next((columns.index(name) for name in ("index", "id") if name in columns), None)
    examples: list[Example] = []
    skipped = 0
    for number, line in enumerate(lines, 1):
        cells = line.rstrip("\r").split("\t")
        if cells == [""] or (number == 1 and not header):
            continue
        if len(cells) != len(columns):
            if secret or not task.skips_broken:
                raise DataError(f"{path}:{number}: {len(cells)} columns; allowed: {len(columns)}")
            skipped += 1
            continue
        if label is not None and cells[label] == "-":
            skipped += 1
            continue
        examples.append(
            Example(
                str(len(examples)) if identity is None else cells[identity],
                cells[text_a],
                None if text_b is None else cells[text_b],
                None if label is None else _label(task, path, number, cells[label]),
            )
        )
    if not examples:
        raise DataError(f"{path}: holds no examples")
    return Split(task, split, examples, skipped)


def _part(whole: Split, path: Path, split: str) -> Split:
    if split == "test":
        raise DataError(f"{path}: one file of labelled rows; allowed splits: train, validation")
    held = split == "validation"
    examples = [example for example in whole.examples if (tenth(example.text_a) == 0) == held]
    if not examples:
        raise DataError(f"{path}: {len(whole)} rows are too few for a {split} split; give more")
    return replace(whole, name=split, examples=examples)


def _column(path: Path, columns: list[str], name: str) -> int:
    if name not in columns:
        raise DataError(f"{path}:1: no column {name!r}; the columns are {', '.join(columns)[:200]}")
    return columns.index(name)


def _label(task: Task, path: Path, number: int, text: str) -> int | float:
    if task.regression:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
        raise DataError(f"{path}:{number}: {task.label} is {text!r}; allowed: a number")
    written = task.written or task.labels
    if text not in written:
        raise DataError(f"{path}:{number}: {task.label} is {text!r}; allowed: {', '.join(written)}")
    return written.index(text)
