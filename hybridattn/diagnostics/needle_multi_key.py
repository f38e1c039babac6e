"""Several needles with keys of their own, one of which is asked for (RULER's multi-key needle, arXiv
2404.06654).
"""

from __future__ import annotations

import numpy as np

from .needle import hay
from .words import WORDS, distinct, number

LINE = "one of several numbers hidden in a long text, by its key"
KEYS = 3


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` sentences without a number, and KEYS with one at random places; the answer is the number of one
    key.
    """
    text = hay(rng, size)
    keys = distinct(rng, KEYS, (WORDS, WORDS))
    secrets = [number(rng, 6) for _ in keys]
    for key, secret in zip(keys, secrets, strict=True):
        text.insert(int(rng.integers(len(text) + 1)), f"The secret number of the {key} is {secret}.")
    asked = int(rng.integers(KEYS))
    return f"{' '.join(text)}\nThe secret number of the {keys[asked]} is", f" {secrets[asked]}"
