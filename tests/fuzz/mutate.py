"""Seeded damage: of bytes, and of JSON text whose shape stays parsable.

JSON is damaged where its values stand in the text, so that no input costs a walk over its values.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 2**31 - 1, 2**31, 2**63, 10**30, 10**39, 0.5, -0.0, 1e300, 1e-45,
    float("inf"), float("nan"), "", "a", "\ud800", "\x00", "../x", "$A:1", "1", "nan", "\u2581", [], [1],
    [[1]], ["a", 1], [None], {}, {"a": 1}, [0] * 300, "x" * 5000,
]  # fmt: skip
NASTY_TEXTS = [
    *map(json.dumps, NASTY),
    "1" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 2000 + "1" + "}" * 2000,
]
NAMES = ["a", "kind", "type", "", "\\u0000", "id", "content"]
TOML_TEXTS = [
    "0", "1", "-1", "2147483648", "9" * 40, "1e300", "inf", "nan", "true", '""', '"a"', '"../x"', "[]", "[1]",
    "[[1]]", '["a", 1]', "{}", "{a = 1}", "1979-05-27", '"""', "[" * 3000,
]  # fmt: skip

Damage = Callable[[random.Random], bytes]


class _Place(NamedTuple):
    """Where a value stands: its text, what goes with it when it is cut out, and its key (0, 0 for none)."""

    start: int
    stop: int
    cut: tuple[int, int]
    key: tuple[int, int]


def of_bytes(data: bytes, head: int | None = None) -> Damage:
    """One to four places flipped, cut, repeated or overwritten; mostly in the first `head` bytes."""

    def damage(rng: random.Random) -> bytes:
        out = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            if not out:
                break
            near = head if head and rng.random() < 0.9 else len(out)
            at, size = rng.randrange(min(near, len(out))), rng.choice((1, 1, 2, 4, 8, 64))
            kind = rng.randrange(6)
            if kind == 0:
                out[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del out[at : at + size]
            elif kind == 2:
                out[at:at] = out[at : at + size]
            elif kind == 3:
                out[at : at + size] = rng.randbytes(size)
            elif kind == 4 and rng.random() < 0.3:
                del out[at:]
            else:
                out[at : at + size] = rng.choice(
                    (b"\x00" * size, b"\xff" * size, b"9" * size, b"[" * size, b'"', b"\n")
                )
        return bytes(out)

    return damage


def of_json(value: Any) -> Damage:
    """One to three values replaced, cut out, put in another's place or set beside it; sometimes of_bytes."""
    text, places = _written(value)
    raw = of_bytes(text.encode())

    def damage(rng: random.Random) -> bytes:
        if not places or rng.random() < 0.1:
            return raw(rng)
        out, reached = text, len(text) + 1
        for each in sorted(rng.choices(places, k=rng.randint(1, 3)), reverse=True):
            if each.cut[1] > reached:  # it holds, or stands in, what was damaged already
                continue
            kind = rng.randrange(5)
            start, stop, new = each.start, each.stop, rng.choice(NASTY_TEXTS)
            if kind == 2:
                (start, stop), new = each.cut, ""
            elif kind == 3:
                other = rng.choice(places)
                new = text[other.start : other.stop]
            elif kind == 4 and each.key[1]:
                start, stop = each.key
                name = rng.choice((*NAMES, text[start + 1 : stop - 1] + "s"))
                if rng.random() < 0.7:  # a new member before this one
                    new, stop = f'"{name}": {new}, ', start
                else:
                    new = f'"{name}"'
            elif kind == 4:
                new, stop = new + ", ", start
            out, reached = out[:start] + new + out[stop:], each.cut[0]
        return out.encode("utf-8", "surrogatepass")

    return damage


def of_lines(lines: list[Any]) -> Damage:
    """One row of a file of JSON lines damaged; sometimes of_bytes of all of them."""
    whole = [json.dumps(line).encode() for line in lines]
    rows, raw = [of_json(line) for line in lines], of_bytes(b"\n".join(whole) + b"\n")

    def damage(rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return raw(rng)
        at = rng.randrange(len(rows))
        return b"\n".join([*whole[:at], rows[at](rng), *whole[at + 1 :], b""])

    return damage


def of_toml(text: str) -> Damage:
    """Values of one or two lines replaced, or lines cut out, repeated or moved; sometimes of_bytes."""
    lines = text.splitlines()
    named = [i for i, line in enumerate(lines) if "=" in line]
    raw = of_bytes(text.encode())

    def damage(rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return raw(rng)
        out = list(lines)
        for _ in range(rng.randint(1, 2)):
            at, kind = rng.choice(named), rng.randrange(6)
            if kind <= 2:
                out[at] = f"{lines[at].partition('=')[0]}= {rng.choice(TOML_TEXTS)}"
            elif kind == 3:
                out[at] = ""
            elif kind == 4:
                out[at] = lines[rng.randrange(len(lines))]
            else:
                out[at] += (
                    f"\n{rng.choice(('a', 'kind', '[x]', '[[align]]', 'x.y'))} = {rng.choice(TOML_TEXTS)}"
                )
        return "\n".join(out).encode()

    return damage


def of_safetensors(data: bytes) -> Damage:
    """The header damaged as JSON under its right length; sometimes of_bytes."""
    size = int.from_bytes(data[:8], "little")
    header, raw = of_json(json.loads(data[8 : 8 + size])), of_bytes(data, 8 + size)

    def damage(rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return raw(rng)
        text = header(rng)
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    return damage


def _written(value: Any) -> tuple[str, list[_Place]]:
    """JSON text and where its values stand."""
    out: list[str] = []
    places: list[_Place] = []
    at = 0

    def put(text: str) -> None:
        nonlocal at
        out.append(text)
        at += len(text)

    def write(item: Any) -> None:
        if not isinstance(item, (dict, list)) or not item:
            put(json.dumps(item))
            return
        opening, closing = "{}" if isinstance(item, dict) else "[]"
        put(opening)
        for number, name in enumerate(item):
            begin = at
            if number:
                put(", ")
            key = at
            if isinstance(item, dict):
                put(json.dumps(name))
            after = at
            if isinstance(item, dict):
                put(": ")
            start = at
            write(item[name] if isinstance(item, dict) else name)
            end = at + (
                2 if number == 0 and len(item) > 1 else 0
            )  # the first takes the comma behind it along
            places.append(_Place(start, at, (begin, end), (key, after) if after > key else (0, 0)))
        put(closing)

    write(value)
    return "".join(out), places
