"""What a report is made of. Strings may hold `code` and **bold**; the renderers do the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Heading:
    text: str
    level: int = 2


@dataclass
class Paragraph:
    text: str
    role: str = ""  # "lead", "note"


@dataclass
class Bullets:
    items: list[str]


@dataclass
class Facts:
    """Big numbers at the top: (value, what it is)."""

    items: list[tuple[str, str]]


@dataclass
class Table:
    """First column is a name, the others are numbers unless `text`; `marked` rows are emphasised."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    marked: tuple[int, ...] = ()
    text: bool = False


@dataclass
class Figure:
    name: str
    alt: str
    caption: str


@dataclass
class LayerMap:
    """Which layers are softmax in each set: (label, palette name, layers)."""

    num_layers: int
    rows: list[tuple[str, str, list[int]]]


@dataclass
class Samples:
    prompt: str
    items: list[tuple[str, str, str]]  # label, palette name, continuation


@dataclass
class Details:
    """Folded away until asked for."""

    summary: str
    blocks: list[Any] = field(default_factory=list)


@dataclass
class Code:
    text: str
