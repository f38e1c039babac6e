"""The books of the King James Bible, out of the file in which Debian's `bible-kjv-text` holds its text.

The file is a head, a table of offsets, and windows of 65,536 characters, each packed by `compress` on its own
without its three bytes of header. A line of the text is a verse behind its place: "Ge1:1 In the beginning".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from ..errors import DataError
from .lzw import expand

_MAGIC, _COUNTS = b"EC02Compressed Data File", 0x54  # window size and number of windows, then their offsets
_VERSE = re.compile(r"(\d?[A-Z][A-Za-z]*)(\d+):\d+ (.+)")


def text_of(data: bytes) -> str:
    """The whole text. DataError for a file of another layout."""
    if not data.startswith(_MAGIC) or len(data) < _COUNTS + 8:
        raise DataError("bible.data does not begin as a compressed data file of bible-kjv")
    size, count = struct.unpack_from(">II", data, _COUNTS)
    if count < 1 or _COUNTS + 8 + 4 * count > len(data):
        raise DataError(f"bible.data says that it holds {count} windows, which it has no room for")
    offsets = [*struct.unpack_from(f">{count}I", data, _COUNTS + 8), len(data)]
    windows = [expand(data[a:b]) for a, b in pairwise(offsets)]
    if any(len(window) != size for window in windows[:-1]):
        raise DataError(f"bible.data has a window that is not {size} characters long")
    return b"".join(windows).decode("latin-1")


def books(text: str) -> Iterator[tuple[str, str]]:
    """(short name, text) of each book: verses of a chapter in a row, chapters apart by blank lines."""
    name, chapter, parts = "", "", [[""]]
    for line in text.split("\n"):
        verse = _VERSE.fullmatch(line.strip())
        if verse is None:
            continue
        if verse[1] != name:
            if name:
                yield name, "\n\n".join(" ".join(part) for part in parts)
            name, chapter, parts = verse[1], "", []
        if verse[2] != chapter:
            chapter = verse[2]
            parts.append([])
        parts[-1].append(verse[3])
    if name:
        yield name, "\n\n".join(" ".join(part) for part in parts)
