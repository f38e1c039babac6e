"""The one way in for JSON from outside: bounded in size, depth and digits, text that can be written again.

What comes out is plain data whose types nobody has promised: the reader of a file checks every field. By
hand, with `field`: msgspec is as strict on types, but lets whole numbers of any length through, refuses the
Infinity that transformers writes, and would be one more required dependency; what decides here are relations
between fields, such as a plan's layers and its length, which a schema does not say either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import HybridAttnError

LARGEST_FILE = 1 << 28  # bytes: tokenizers have some ten million
MOST_DIGITS = 40  # of a whole number: above what any format means, and far below what overflows a float

POINTER = b"version https://git-lfs"
_STRANGERS = {  # how files begin that are not what their name says
    POINTER: "a Git LFS pointer: `git lfs pull` in its folder fetches the file",
    b"<!doctype html": "a web page: the download failed",
    b"<html": "a web page: the download failed",
    b"PK\x03\x04": "a zip archive, as PyTorch writes .bin and .pt files",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}


def read_plain_text(path: Path, error: type[HybridAttnError]) -> str:
    """The text of a small UTF-8 file; `error`, naming it, for what is none, and for a Git LFS pointer."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: byte {problem.start} is not UTF-8 text") from None
    except OSError as problem:
        raise error(f"{path}: {problem.strerror}") from None
    if data.startswith(POINTER):
        raise error(f"{path}: {stranger(data[:100])}")
    return text


def stranger(head: bytes) -> str:
    """What a file is that begins so and is not what its name says; "" when that is not known."""
    start = head.lstrip().lower()
    return next((what for begin, what in _STRANGERS.items() if start.startswith(begin.lower())), "")


def read_json(path: str | os.PathLike[str], error: type[HybridAttnError], limit: int = LARGEST_FILE) -> Any:
    """The content of a JSON file. `error`, naming the file and the reason, for one of more than `limit` bytes
    or one that `parse_json` refuses; OSError when it cannot be opened.
    """
    target = Path(path)
    with open(target, "rb") as file:
        # a read of N bytes takes memory for N at once: no more than the file has
        size = min(limit, max(os.fstat(file.fileno()).st_size, 1 << 16)) + 1
        data = b""
        while len(data) <= limit and (block := file.read(size)):
            data += block
    if len(data) > limit:
        raise error(f"{target}: has more than {limit} bytes; allowed for JSON here: up to that")
    return parse_json(data, str(target), error)


def parse_json(
    data: bytes | str,
    where: str,
    error: type[HybridAttnError],
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON text. `error`, naming `where`, for what is no UTF-8 text or no JSON, is nested
    deeper than Python reads, has a whole number of more than MOST_DIGITS digits, or half a surrogate in text.
    pairs: as object_pairs_hook of `json.loads`.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(text, parse_int=_whole, object_pairs_hook=pairs)
        if "\\ud" in text or "\\uD" in text:  # only an escape can hold half a character
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise error(f"{where}: not JSON: it is nested too deep") from None
    except ValueError as problem:
        head = data[:100].encode("utf-8", "replace") if isinstance(data, str) else data[:100]
        raise error(f"{where}: {stranger(head) or f'not JSON: {problem}'}") from None
    return value


def raised_by_library(error: BaseException) -> bool:
    """Whether `error` may be an answer of the tokenizers library: it raises bare Exception, and a panic of
    its Rust code, as for a template of a token that is not there, is not even that.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def one_line(error: BaseException) -> str:
    """The text of an error of a library, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; allowed: up to {MOST_DIGITS}")
    return int(digits)


def field(
    content: Mapping[str, Any],
    name: str,
    kind: type | tuple[type, ...],
    where: str,
    error: type[HybridAttnError],
) -> Any:
    """content[name], which must be there and of that kind; true and false are no numbers."""
    value = content.get(name)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(
            "null" if each is type(None) else _WORDS.get(each, each.__name__) for each in kinds
        )
        raise error(f"{where}: {name} is {_short(value)}; allowed: {wanted}")
    return value


_WORDS = {
    dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number",
    bool: "true or false",
    type(None): "null",
}  # fmt: skip


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
