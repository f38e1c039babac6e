"""Phone book (arXiv 2402.01032): names with numbers, then one of the names."""

from __future__ import annotations

import numpy as np

from .words import FIRST_NAMES, LAST_NAMES, distinct, number

LINE = "a number of a long phone book"


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` entries "First Last: 555-1234"; the answer is the number of one of them."""
    names = distinct(rng, size, (FIRST_NAMES, LAST_NAMES))
    numbers = [f"{number(rng, 3)}-{number(rng, 4)}" for _ in names]
    asked = int(rng.integers(size))
    book = "\n".join(f"{name}: {phone}" for name, phone in zip(names, numbers, strict=True))
    return f"Phone book\n{book}\nThe phone number of {names[asked]}:", f" {numbers[asked]}"
