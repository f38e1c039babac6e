"""A constant channel that makes an RMSNorm over a head do nothing, for layouts whose q and k are normed.

A head of d channels is stored as one of d' > d. Channel d of q is a constant c (a bias over zero weights),
and so of k; the others are zero. RMSNorm then divides by

    sqrt((|q|^2 + c^2) / d') = c / sqrt(d') sqrt(1 + |q|^2 / c^2)

and its weight, w on channels 0 to d - 1 and 0 on the rest, undoes the first factor. What stays is the second:
an attention logit is too small by the share |q|^2 / (2 c_q^2) + |k|^2 / (2 c_k^2) of it. The target divides
logits by sqrt(d') where the teacher does by sqrt(d), so that

    w_q w_k = c_q c_k / sqrt(d' d)

c and w - 1 (norms are stored less 1) are numbers of 8 significant bits, which float32, bfloat16 and float16
hold exactly: a file says the same whatever type it is run in. q's and k's own roundings are chosen together,
so that they cancel to some 1e-7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np

from ..errors import ExportError

WANTED = 2.0**-20  # the share of an attention logit that may be missing; some 1e-6
MOST = 1e-4  # above this a model is refused
# c and w have to be finite in the type, and c^2 in float32, in which programs take the mean
_LARGEST = {"float16": 2.0**15, "bfloat16": 2.0**40, "float32": 2.0**40}


@dataclass(frozen=True)
class Constants:
    """What a layer's padded heads hold. error: the share of an attention logit that is missing at most."""

    query: float
    key: float
    query_weight: float
    key_weight: float
    error: float


def choose(dim: int, padded: int, query: float, key: float, dtype: str, layer: int) -> Constants:
    """The constants for heads of `dim` channels in `padded`, whose q and k are at most so long, in a type.

    The smallest powers of two that keep the error below 1e-6, so that the file can be run in other types too.
    Raises ExportError with the figure when the type cannot hold what 1e-4 takes.
    """
    largest = _LARGEST[dtype]
    sizes = []
    for length in (query, key):
        wanted = max(length, 1e-3) / math.sqrt(WANTED)  # each side may take half: length^2 / (2 c^2)
        sizes.append(min(2.0 ** math.ceil(math.log2(wanted)), largest))
    error = float(0.5 * (query / sizes[0]) ** 2 + 0.5 * (key / sizes[1]) ** 2)
    if not error <= MOST:
        raise ExportError(
            f"layer {layer}: q and k have lengths of up to {query:.4g} and {key:.4g}, which costs "
            f"{error:.2g} of an attention logit with a constant of {largest:g}, the largest for {dtype}; "
            f"allowed: {MOST:g}"
        )
    scale = (padded * dim) ** -0.25  # w / c of each side
    (query_factor, query_weight), (key_factor, key_weight) = _pair(sizes[0] * scale, sizes[1] * scale)
    return Constants(sizes[0] * query_factor, sizes[1] * key_factor, query_weight, key_weight, error)


def _pair(query: float, key: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(factor on c, w) of q and of k, so that w_q w_k comes out right for c times the factors."""
    sides = [_candidates(value) for value in (query, key)]
    wrong = np.log(sides[0][2])[:, None] + np.log(sides[1][2])[None, :]
    i, j = np.unravel_index(int(np.abs(wrong).argmin()), wrong.shape)
    return (float(sides[0][0][i]), float(sides[0][1][i])), (float(sides[1][0][j]), float(sides[1][1][j]))


@cache
def _candidates(weight: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For factors of 8 bits in [1, 2): (factor, w with w - 1 of 8 bits, w over what it should be)."""
    factors = 1.0 + np.arange(128) / 128
    exact = weight * factors
    stored = (exact - 1).astype(ml_dtypes.bfloat16).astype(np.float64) + 1
    use = stored > 0
    return factors[use], stored[use], stored[use] / exact[use]
