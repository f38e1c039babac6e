"""Seeded damage: of bytes, and of JSON values whose shape stays parsable."""

from __future__ import annotations

import copy
import random
from typing import Any

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 2**63, 10**30, 10**39, 0.5, -0.0, 1e300,
    float("inf"), float("nan"), "", "a", "\ud800", "\x00", "../x", "$A:1", "1", "nan", [], [1], [[1]],
    ["a", 1], [None], {}, {"a": 1},
]  # fmt: skip


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to four places flipped, cut, repeated, moved or overwritten."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not out:
            break
        at, size = rng.randrange(len(out)), rng.choice([1, 1, 2, 4, 8, 64])
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        elif kind == 3:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 4:
            del out[at:]
        else:
            out[at : at + size] = rng.choice([b"\x00" * size, b"\xff" * size, b"9" * size, b"[" * size, b'"'])
    return bytes(out)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value in which one to three places hold something else."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places: list[tuple[Any, Any]] = []
        _collect(value, places)
        if not places:
            return rng.choice(NASTY)
        holder, key = rng.choice(places)
        kind = rng.randrange(5)
        if kind <= 1:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
        elif kind == 2:
            del holder[key]
        elif kind == 3:
            other, name = rng.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = copy.deepcopy(other[name])
        elif isinstance(holder, dict):
            holder[rng.choice(["a", "kind", "type", "", str(key) + "s"])] = copy.deepcopy(rng.choice(NASTY))
        else:
            holder.insert(key, copy.deepcopy(rng.choice(NASTY)))
    return value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        places.append((value, key))
        _collect(inner, places)
