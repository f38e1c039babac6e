"""Text files as rows, read one after the other: a file may be larger than memory."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..reading import POINTER, parse_json, stranger
from ..results.progress import log

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

TEXT_SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
Row = str | dict[str, Any]  # a text, or an object with "text" or "messages"


def rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a .txt, .txt.gz, .jsonl, .jsonl.gz or .parquet file, or of a folder of them in the order of
    their names, as they are read.

    A .txt file is one row, its text. A line of .jsonl is an object with a string in "text" or a list in
    "messages", as is a row of Parquet, for which pyarrow has to be there. Raises DataError naming the file
    (and line).
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(f for f in source.iterdir() if f.name.endswith(TEXT_SUFFIXES))
        if not files:
            raise DataError(f"{source}: holds no {', '.join(TEXT_SUFFIXES)} file")
        for file in files:
            yield from rows(file)
        return
    if not source.is_file():
        raise DataError(f"{source}: no such file or folder")
    if not source.name.endswith(TEXT_SUFFIXES):
        raise DataError(
            f"{source}: suffix is {source.suffix!r}; allowed: {', '.join(TEXT_SUFFIXES)}, or a folder"
        )
    if source.suffix == ".parquet":
        yield from _parquet(source)
    elif ".jsonl" in source.suffixes:
        for number, line in enumerate(_lines(source), 1):
            if line.strip():
                yield _checked(f"{source}:{number}", parse_json(line, f"{source}:{number}", DataError))
    else:
        yield "".join(_lines(source))


def _lines(source: Path) -> Iterator[str]:
    """Lines of UTF-8, ended by line feeds alone; DataError naming the first byte that is none."""
    with open(source, "rb") as plain:
        if plain.read(len(POINTER)) == POINTER:
            raise DataError(f"{source}: {stranger(POINTER)}")
    at = 0
    try:
        with (gzip.open if source.name.endswith(".gz") else open)(source, "rb") as file:
            for line in file:
                text = line.decode("utf-8-sig" if at == 0 else "utf-8")
                at += len(line)
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: not readable as gzip: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {at + error.start} is not UTF-8 text") from None


def _parquet(source: Path) -> Iterator[Row]:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install pyarrow") from None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            names = [name for name in ("text", "messages") if name in file.schema_arrow.names]
            if not names:
                found = ", ".join(file.schema_arrow.names)
                raise DataError(f'{source}: columns are {found}; allowed: one called "text" or "messages"')
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    kept = {name: value for name, value in row.items() if value is not None}
                    yield _checked(f"{source}: row {number}", kept or {"text": ""})
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise DataError(f"{source}: no Parquet file: {' '.join(str(error).split())[:200]}") from None


def _checked(where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: holds a {type(row).__name__}; allowed: an object")
    if not isinstance(row.get("text"), str) and not isinstance(row.get("messages"), list):
        raise DataError(
            f'{where}: no string in field "text" and no list in "messages"; allowed: an object with one'
        )
    return row


def text_of(row: Row, where: str, tokenizer: Tokenizer | None = None) -> str:
    """The text of a row; "messages" as the tokenizer's chat template writes them. DataError without one."""
    if isinstance(row, str):
        return row
    if isinstance(row.get("text"), str):
        return str(row["text"])
    if not row["messages"]:
        return ""
    if tokenizer is None:
        raise DataError(f"{where}: holds messages; allowed where no tokenizer is given: text")
    return tokenizer.apply_chat_template(row["messages"], add_generation_prompt=False)


def load_text(path: str | os.PathLike[str], tokenizer: Tokenizer | None = None) -> list[str]:
    """All texts of a file or folder, see `rows`; rows of messages need the tokenizer, whose chat template
    writes them.

    Empty rows are left out; their number is logged. Raises DataError naming the file (and line) for anything
    that is not such text, or empty.
    """
    texts, empty = [], 0
    for row in rows(path):
        text = text_of(row, str(path), tokenizer)
        if text.strip():
            texts.append(text)
        else:
            empty += 1
    if not texts:
        raise DataError(f"{os.fspath(path)}: holds no text")
    log_empty(str(path), empty)
    return texts


def log_empty(where: str, count: int) -> None:
    """Tell how many rows were left out."""
    if count:
        log.warning("%s: %d empty rows are left out", where, count)


def json_lines(path: str | os.PathLike[str], fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line, its object) of a file of JSON lines, each with a string in all of `fields`.

    Raises DataError naming file and line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                where = f"{os.fspath(path)}:{number}"
                row = parse_json(line, where, DataError)
                if not isinstance(row, dict):
                    raise DataError(f"{where}: holds a {type(row).__name__}; allowed: an object")
                _strings(where, row, fields)
                yield number, row
    except UnicodeDecodeError:
        raise DataError(f"{os.fspath(path)}: not UTF-8 text") from None


def _strings(where: str, row: dict[str, Any], fields: Iterable[str]) -> None:
    for field in fields:
        if not isinstance(row.get(field), str):
            raise DataError(f'{where}: no string in field "{field}"; allowed: an object with one')
