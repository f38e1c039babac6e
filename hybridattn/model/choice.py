"""The choice of a token from its logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pick(
    logits: npt.NDArray[np.float32], temperature: float, top_k: int, top_p: float, rng: np.random.Generator
) -> int:
    """One token of logits [V]: the most likely one at temperature 0, else one drawn within top_k and
    top_p.
    """
    return pick_with(logits, temperature, top_k, top_p, rng.random() if temperature else 0.0)


def pick_with(
    logits: npt.NDArray[np.float32], temperature: float, top_k: int, top_p: float, draw: float
) -> int:
    """`pick` with the draw, a number in [0, 1)."""
    if temperature == 0.0:
        return int(logits.argmax())
    # divided after the largest is taken away: any temperature above 0 will do
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    ids = np.arange(len(scaled))
    if 0 < top_k < len(scaled):
        ids = np.argpartition(-scaled, top_k - 1)[:top_k]
    ids = ids[np.argsort(-scaled[ids], kind="stable")]
    weights = np.exp(scaled[ids] - scaled[ids[0]])
    total = np.cumsum(weights)
    if top_p < 1.0:
        kept = int(np.searchsorted(total, top_p * total[-1])) + 1
        ids, total = ids[:kept], total[:kept]
    at = int(np.searchsorted(total, draw * total[-1], side="right"))
    return int(ids[min(at, len(ids) - 1)])  # the product can round up to the total


class Foresight:
    """Choices with the draws that the places of tokens will have, seed (seed, row): where a draft gives the
    same probabilities, it makes the same choices.
    """

    def __init__(self, seed: int, rows: int, temperature: float, top_k: int, top_p: float) -> None:
        self._rngs = [np.random.default_rng([seed, i]) for i in range(rows)]
        self._draws: list[list[float]] = [[] for _ in range(rows)]
        self._settings = temperature, top_k, top_p

    def __call__(self, logits: npt.NDArray[np.float32], row: int, at: int) -> int:
        while len(self._draws[row]) <= at:
            self._draws[row].append(self._rngs[row].random())
        return pick_with(logits, *self._settings, self._draws[row][at])
