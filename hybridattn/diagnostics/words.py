"""Plain English words and digits, which any tokenizer can encode."""

from __future__ import annotations

import numpy as np

_LIST = """
    apple river stone window garden copper silver winter summer monkey tiger rabbit candle bridge castle
    forest island harbor market mirror needle orange pencil pepper planet pocket potato ribbon saddle
    shadow spider spring square street sugar table temple thunder ticket tunnel turtle valley velvet
    violin walnut water whale wheel willow wizard yellow anchor basket beacon button camera canyon carpet
    cherry circle cotton desert dragon engine falcon feather flower fountain guitar hammer honey jacket
    jungle kettle ladder lemon lion magnet maple marble meadow melon mountain ocean owl paper parrot piano
    pillow pirate pony puzzle rocket salmon school sailor scarf snow sparrow statue
"""
WORDS = tuple(_LIST.split())
_FIRST = """
    Alice Brian Carol David Emma Frank Grace Henry Irene James Karen Louis Maria Nathan Olivia Peter Rachel
    Simon Teresa Victor Walter Andrew Barbara Charles Diana Edward Fiona George Helen Isaac
"""
_LAST = """
    Adams Baker Carter Dixon Evans Foster Green Harris Irving Jones Keller Lopez Miller Norris Owens Parker
    Quinn Reed Smith Turner Vance Walker Young Zimmer Archer Barnes Collins Dawson Ellis Fisher
"""
FIRST_NAMES, LAST_NAMES = tuple(_FIRST.split()), tuple(_LAST.split())


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of them."""
    return options[int(rng.integers(len(options)))]


def distinct(rng: np.random.Generator, count: int, parts: tuple[tuple[str, ...], ...]) -> list[str]:
    """`count` different phrases of one word of each part, such as "copper tiger"; past all combinations,
    a number is added.
    """
    shape = tuple(len(part) for part in parts)
    total = int(np.prod(shape))
    order = rng.permutation(total)
    found = []
    for i in range(count):
        at = np.unravel_index(order[i % total], shape)
        phrase = " ".join(part[int(j)] for part, j in zip(parts, at, strict=True))
        found.append(phrase if i < total else f"{phrase} {i // total + 1}")
    return found


def number(rng: np.random.Generator, digits: int) -> str:
    """A number of so many digits, the first not 0."""
    return str(int(rng.integers(10 ** (digits - 1), 10**digits)))
