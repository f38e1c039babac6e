"""What a fuzzed reader is: whole input to start from, how it is damaged, and the call that reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.mutate import Damage, of_bytes, of_json, of_lines, of_safetensors, of_toml
from hybridattn.errors import HybridAttnError
from hybridattn.files import sheet_checksum


@dataclass(frozen=True)
class Source:
    """A file of a folder that is damaged: `whole` is what it holds, `damage` makes other content."""

    folder: Path
    file: str
    whole: bytes
    damage: Damage


@dataclass(frozen=True)
class Reader:
    """read: takes the folder. Errors of this package, and OSError, are answers; anything else is a fault."""

    read: Callable[[Path], Any]
    sources: list[Source]
    answers: tuple[type[BaseException], ...] = (HybridAttnError, OSError)


def source(folder: Path, file: str, head: int | None = None, checked: bool = False) -> Source:
    """A file that is there, damaged as its kind is. head: bytes at the beginning that matter most. checked:
    it holds a checksum, which half of the damaged forms have right, so that they are looked into.
    """
    whole = (folder / file).read_bytes()
    kind = file.rpartition(".")[2]
    if kind == "json" and len(whole) < 200_000:
        damage = of_json(json.loads(whole))
    elif kind == "jsonl":
        damage = of_lines([json.loads(line) for line in whole.splitlines()])
    elif kind == "toml":
        damage = of_toml(whole.decode())
    elif kind == "safetensors":
        damage = of_safetensors(whole)
    else:
        damage = of_bytes(whole, head)
    return Source(folder, file, whole, _with_checksum(damage) if checked else damage)


def _with_checksum(damage: Damage) -> Damage:
    def checked(rng: random.Random) -> bytes:
        data = damage(rng)
        if rng.random() < 0.5:
            return data
        try:
            content = json.loads(data)
            content["checksum"] = sheet_checksum(content)
            return json.dumps(content).encode()
        except (ValueError, RecursionError, TypeError, KeyError):
            return data

    return checked


def values(folder: Path, *contents: Any) -> list[Source]:
    """Sources of values that a caller gives and no file holds; `value` reads them."""
    found = []
    for number, content in enumerate(contents):
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / "value.json").write_text(json.dumps(content))
        found.append(source(place, "value.json"))
    return found


def value(folder: Path) -> Any:
    """The value as a caller would give it; what is no JSON is no input."""
    try:
        return json.loads((folder / "value.json").read_bytes())
    except (ValueError, RecursionError):
        raise HybridAttnError("no value") from None
