"""Needle in a haystack (RULER's single needle, arXiv 2404.06654): one sentence with a number, somewhere
in others.
"""

from __future__ import annotations

import numpy as np

from .words import WORDS, number, pick

LINE = "one number hidden in a long text"
VERBS = ("stands near", "lies behind", "belongs to", "looks like", "came before", "rests on")


def hay(rng: np.random.Generator, size: int) -> list[str]:
    """`size` sentences without a number."""
    return [f"The {pick(rng, WORDS)} {pick(rng, VERBS)} the {pick(rng, WORDS)}." for _ in range(size)]


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` sentences without a number, and one with it at a random place; the answer is the number."""
    text = hay(rng, size)
    city, secret = pick(rng, WORDS), number(rng, 6)
    text.insert(int(rng.integers(size + 1)), f"The secret number of the {city} is {secret}.")
    return f"{' '.join(text)}\nThe secret number of the {city} is", f" {secret}"
