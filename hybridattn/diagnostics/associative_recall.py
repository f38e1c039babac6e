"""Associative recall: key-value pairs, then one of the keys (the task of arXiv 2312.04927, in words)."""

from __future__ import annotations

import numpy as np

from .words import WORDS, distinct, number

LINE = "the value of one of many keys"


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` pairs "word word: number"; the answer is the number of one of them."""
    keys = distinct(rng, size, (WORDS, WORDS))
    values = [number(rng, 3) for _ in keys]
    asked = int(rng.integers(size))
    pairs = "\n".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
    return f"List:\n{pairs}\nLook up:\n{keys[asked]}:", f" {values[asked]}"
