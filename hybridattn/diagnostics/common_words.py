"""Common words (RULER, arXiv 2404.06654): a list in which one word comes often and all others once or a
few times.
"""

from __future__ import annotations

import numpy as np

from .words import WORDS

LINE = "the most common word of a list"


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """`size` + 1 rounds of three words: the common word and two others, which come again only after all
    others have; the answer is the common word.
    """
    order = [WORDS[i] for i in rng.permutation(len(WORDS))]
    common, rest = order[0], order[1:]
    words: list[str] = []
    for i in range(size + 1):
        others = [rest[(2 * i + j) % len(rest)] for j in range(2)]
        words += [[common, *others][j] for j in rng.permutation(3)]
    listed = " ".join(f"{i + 1}. {word}" for i, word in enumerate(words))
    return f"{listed}\nThe word that comes most often in this list is", f" {common}"
