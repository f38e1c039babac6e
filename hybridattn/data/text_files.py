"""Text files as rows, read one after the other: a file may be larger than memory."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..reading import POINTER, parse_json, read_json, stranger
from ..results.progress import log

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

TEXT_SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
BLOCK = 1 << 20  # bytes read at a time
Row = str | dict[str, Any]  # a text, or an object with "text" or "messages"


def rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a .txt, .txt.gz, .jsonl, .jsonl.gz or .parquet file, of a folder of them in the order of
    their names, or of a folder that `save_to_disk` of datasets wrote, as they are read.

    A .txt file is one row, its text. A line of .jsonl is an object with a string in "text" or a list in
    "messages", as is a row of Parquet and of datasets, for which pyarrow has to be there. Raises DataError
    naming the file (and line).
    """
    for source in files_of(path):
        if source.suffix == ".parquet":
            yield from _parquet(source)
        elif source.suffix == ".arrow":
            yield from _arrow(source)
        elif ".jsonl" in source.suffixes:
            for number, line in enumerate(_lines(source), 1):
                if line.strip():
                    yield _checked(f"{source}:{number}", parse_json(line, f"{source}:{number}", DataError))
        else:
            yield "".join(_blocks(source))


def documents(path: str | os.PathLike[str], tokenizer: Tokenizer | None = None) -> Iterator[Iterator[str]]:
    """The texts of `rows`, each as chunks that joined are the text: a .txt file is never held whole."""
    for source in files_of(path):
        if source.name.endswith((".txt", ".txt.gz")):
            yield _blocks(source)
        else:
            yield from (iter([text_of(row, str(source), tokenizer)]) for row in rows(source))


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """The files that a name stands for. DataError when they are none of text."""
    source = Path(path)
    if source.is_dir():
        return saved_dataset(source) or _files_in(source)
    if not source.is_file():
        raise DataError(f"{source}: no such file or folder")
    if not source.name.endswith((*TEXT_SUFFIXES, ".arrow")):
        raise DataError(
            f"{source}: suffix is {source.suffix!r}; allowed: {', '.join(TEXT_SUFFIXES)}, or a folder"
        )
    return [source]


def _files_in(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.name.endswith(TEXT_SUFFIXES))
    if not files:
        raise DataError(f"{folder}: holds no {', '.join(TEXT_SUFFIXES)} file")
    return files


def saved_dataset(folder: Path) -> list[Path]:
    """The files of what `Dataset.save_to_disk` of datasets wrote, in their order; none for another folder.
    DataError for one of several splits.
    """
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = read_json(splits, DataError)
        found = names.get("splits") if isinstance(names, dict) else None
        listed = ", ".join(map(str, found)) if isinstance(found, list) else "unknown"
        raise DataError(f"{folder}: holds the splits {listed}; allowed: the folder of one of them")
    state = folder / "state.json"
    if not (state.is_file() and (folder / "dataset_info.json").is_file()):
        return []
    content = read_json(state, DataError)
    entries = content.get("_data_files") if isinstance(content, dict) else None
    given = entries if isinstance(entries, list) else []
    files = [entry.get("filename") if isinstance(entry, dict) else None for entry in given]
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise DataError(f"{state}: _data_files is {entries!r:.80}; allowed: objects with a filename")
    return [folder / str(name) for name in files]


def _blocks(source: Path) -> Iterator[str]:
    """The text of a UTF-8 file in blocks of about a million characters; DataError naming the first byte that
    is none.
    """
    decoder, at = codecs.getincrementaldecoder("utf-8-sig")(), 0
    for block in _bytes(source, lambda file: iter(lambda: file.read(BLOCK), b"")):
        waiting = len(decoder.getstate()[0])
        try:
            yield decoder.decode(block)
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: byte {at - waiting + error.start} is not UTF-8 text") from None
        at += len(block)
    waiting = len(decoder.getstate()[0])
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {at - waiting + error.start} is not UTF-8 text") from None


def _lines(source: Path) -> Iterator[str]:
    """Lines of UTF-8, ended by line feeds alone; DataError naming the first byte that is none."""
    at = 0
    for line in _bytes(source, iter):
        try:
            text = line.decode("utf-8-sig" if at == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: byte {at + error.start} is not UTF-8 text") from None
        at += len(line)
        yield text


def _bytes(source: Path, parts: Callable[[Any], Iterator[bytes]]) -> Iterator[bytes]:
    """The parts of a file, unpacked where its name ends in .gz."""
    with open(source, "rb") as plain:
        if plain.read(len(POINTER)) == POINTER:
            raise DataError(f"{source}: {stranger(POINTER)}")
    try:
        with (gzip.open if source.name.endswith(".gz") else open)(source, "rb") as file:
            yield from parts(file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: not readable as gzip: {error}") from None


def _parquet(source: Path) -> Iterator[Row]:
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install pyarrow") from None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            names = _columns(source, file.schema_arrow.names)
            yield from _of_batches(source, file.iter_batches(batch_size=1024, columns=names))
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise DataError(f"{source}: no Parquet file: {' '.join(str(error).split())[:200]}") from None


def _arrow(source: Path) -> Iterator[Row]:
    try:
        import pyarrow.ipc
        import pyarrow.lib
    except ImportError:
        raise DataError(f"{source}: Arrow files need pyarrow: pip install pyarrow") from None
    try:
        with pyarrow.memory_map(str(source)) as file, pyarrow.ipc.open_stream(file) as stream:
            names = _columns(source, stream.schema.names)
            yield from _of_batches(source, (batch.select(names) for batch in stream))
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise DataError(f"{source}: no Arrow stream: {' '.join(str(error).split())[:200]}") from None


def _columns(source: Path, found: Sequence[str]) -> list[str]:
    names = [name for name in ("text", "messages") if name in found]
    if not names:
        raise DataError(f'{source}: columns are {", ".join(found)}; allowed: one called "text" or "messages"')
    return names


def _of_batches(source: Path, batches: Iterable[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for at in range(0, batch.num_rows, 1024):
            for row in batch.slice(at, 1024).to_pylist():
                number += 1
                kept = {name: value for name, value in row.items() if value is not None}
                yield _checked(f"{source}: row {number}", kept or {"text": ""})


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
