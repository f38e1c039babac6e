"""Several needles with one key, all of which are asked for (RULER's multi-value needle, arXiv 2404.06654)."""

from __future__ import annotations

import numpy as np

from .needle import hay
from .words import WORDS, number, pick

LINE = "all of several numbers hidden in a long text, in their order"
VALUES = 3


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` sentences without a number, and VALUES with one at random places; the answer is all numbers, in
    the order of the text, so that a right answer is one string.
    """
    text = hay(rng, size)
    key = pick(rng, WORDS)
    secrets = [number(rng, 6) for _ in range(VALUES)]
    places = np.sort(rng.integers(0, size + 1, VALUES)) + np.arange(VALUES)
    for at, secret in zip(places, secrets, strict=True):
        text.insert(int(at), f"A secret number of the {key} is {secret}.")
    question = f"The {VALUES} secret numbers of the {key}, in the order of the text, are"
    return f"{' '.join(text)}\n{question}", f" {', '.join(secrets)}"
