"""Multi-hop recall: the value that a key holds is the key of the next pair, twice over."""

from __future__ import annotations

import numpy as np

from .words import WORDS, distinct, number

LINE = "a value two pairs away from its key"


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` chains person -> place -> number in any order of lines; the answer is a person's number."""
    names = distinct(rng, 2 * size, (WORDS, WORDS))
    people, places = names[:size], names[size:]
    numbers = [number(rng, 3) for _ in range(size)]
    lines = [f"The {a} is in the {b}." for a, b in zip(people, places, strict=True)]
    lines += [f"The code of the {b} is {n}." for b, n in zip(places, numbers, strict=True)]
    text = " ".join(lines[i] for i in rng.permutation(len(lines)))
    asked = int(rng.integers(size))
    question = f"What is the code of the place where the {people[asked]} is?"
    return f"{text}\nQuestion: {question}\nAnswer: the code is", f" {numbers[asked]}"
