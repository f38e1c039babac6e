"""Frequent words (RULER, arXiv 2404.06654): words drawn by Zipf's law, which of them is the most frequent?"""

from __future__ import annotations

import numpy as np

from .words import WORDS

LINE = "the most frequent word of a text drawn by Zipf's law"
EXPONENT = 2.0


def example(rng: np.random.Generator, size: int) -> tuple[str, str]:
    """4 `size` words, the r-th of a shuffled list with a probability of r**-2; the answer is the most
    frequent one, which is drawn once more when another is as frequent.
    """
    order = rng.permutation(len(WORDS))
    chance = (np.arange(len(WORDS)) + 1.0) ** -EXPONENT
    drawn = rng.choice(len(WORDS), size=4 * size, p=chance / chance.sum())
    counts = np.bincount(drawn, minlength=len(WORDS))
    top = int(counts.argmax())
    if (counts == counts[top]).sum() > 1:
        drawn = np.insert(drawn, rng.integers(len(drawn) + 1), top)
    text = " ".join(WORDS[order[i]] for i in drawn)
    return f"{text}.\nThe word that comes most often in this text is", f" {WORDS[order[top]]}"
