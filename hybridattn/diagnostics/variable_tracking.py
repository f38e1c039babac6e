"""Variable tracking (RULER, arXiv 2404.06654): follow a value through assignments of one variable to
another.
"""

from __future__ import annotations

import numpy as np

from .words import WORDS, distinct, number

LINE = "a value passed on from variable to variable"
HOPS = 3


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` chains of HOPS assignments, their lines mixed but in order within a chain; the answer is the
    value that the last variable of one chain holds.
    """
    names = [name.replace(" ", "_") for name in distinct(rng, size * HOPS, (WORDS, WORDS))]
    values = [number(rng, 5) for _ in range(size)]
    turn = rng.permutation(np.repeat(np.arange(size), HOPS))
    at = np.zeros(size, int)
    lines = []
    for chain in turn:
        name = names[chain * HOPS + at[chain]]
        source = values[chain] if at[chain] == 0 else names[chain * HOPS + at[chain] - 1]
        lines.append(f"{name} = {source}")
        at[chain] += 1
    asked = int(rng.integers(size))
    return "\n".join(lines) + f"\nprint({names[asked * HOPS + HOPS - 1]})\n# prints", f" {values[asked]}"
