"""Scores of single layers by KL divergence (arXiv 2512.20569): forward passes, or one backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import refuse
from .scoring import Result, Scoring


def replace(scoring: Scoring) -> Result:
    """L(all but l): from the teacher, make one layer linear. The base is the teacher: no pass of its own."""
    base, rows = scoring.flip_teacher()
    with scoring.as_reference():
        linear = scoring.kl(scoring.set_gates([]))
    return Result(rows, base, linear)


def restore(scoring: Scoring) -> Result:
    """L(none) - L({l}): from the all-linear model, make one layer softmax."""
    base, rows = scoring.flip(np.zeros(scoring.layers, np.float32), list(range(scoring.layers)))
    return Result(base[None, :] - rows, base, base)


def gate(scoring: Scoring, *, alpha: float | Sequence[float] = 0.5) -> Result:
    """- dL / d alpha_l with all gates at alpha, averaged over alphas."""
    alphas = tuple(float(a) for a in alpha) if isinstance(alpha, Sequence) else (float(alpha),)
    if not alphas or not all(0.0 <= a < 1.0 for a in alphas):
        raise refuse(
            "alpha", alpha, "0 up to, but not, 1 (there the KL is at its minimum and its slope is zero)"
        )
    found = [scoring.gradient(np.full(scoring.layers, a, np.float32)) for a in alphas]
    at_zero = [kl for (kl, _), a in zip(found, alphas, strict=True) if a == 0.0]
    with scoring.as_reference():
        linear = at_zero[0] if at_zero else scoring.kl(np.zeros(scoring.layers, np.float32))
    rows = -np.mean([slope for _, slope in found], axis=0)
    return Result(rows, found[0][0], linear, {"alpha": list(alphas)})
