"""Codes of the Unix program `compress` (Welch 1984), as .Z files hold them behind three bytes of header.

Ours, since Python has no module for it: the codes are 9 to 16 bits wide, lowest bit first, in groups of eight
codes; a group that is cut short by a wider code or by the code 256, which empties the table, is padded.
"""

from __future__ import annotations

from ..errors import DataError

_CLEAR, _NARROW, _WIDE = 256, 9, 16


def expand(data: bytes) -> bytes:
    """What was compressed. DataError for codes that no compressor writes."""
    bits, at, start, width = 8 * len(data), 0, 0, _NARROW  # start: where the codes of this width begin
    table = [bytes((i,)) for i in range(256)] + [b""]
    out, before = [], b""
    while at + width <= bits:
        code = int.from_bytes(data[at >> 3 : (at >> 3) + 4], "little") >> (at & 7) & (1 << width) - 1
        at += width
        if code == _CLEAR:
            at = start = _group_end(at, start, width)
            del table[_CLEAR + 1 :]
            width, before = _NARROW, b""
            continue
        if code > len(table) or (code == len(table) and not before):
            raise DataError(f"compressed data: code {code} at bit {at - width}; allowed: up to {len(table)}")
        word = table[code] if code < len(table) else before + before[:1]
        if before and len(table) < 1 << _WIDE:
            table.append(before + word[:1])
            if len(table) == 1 << width and width < _WIDE:
                at = start = _group_end(at, start, width)
                width += 1
        out.append(word)
        before = word
    return b"".join(out)


def _group_end(at: int, start: int, width: int) -> int:
    """The first bit behind the group of eight codes that the code before `at` is in."""
    group = 8 * width
    return start + -(-(at - start) // group) * group
