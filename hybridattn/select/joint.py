"""All gates at once: gradient descent on L numbers, every weight of the model frozen.

    minimise  KL(g) / KL(0)  +  budget ((sum g - k) / k)^2  +  sharp mean g (1 - g)

over g = sigmoid(theta), by Adam. KL(g) is that of the mixed model, so gates see each other; its gradient
comes from one backward pass (`KLScorer.gate_gradient`). `budget` grows from slight to firm, `sharp` from
0, so that the search is free at first and ends near a choice of k layers; the k largest gates are it.
"""

from __future__ import annotations

import numpy as np

from ..checks import refuse
from .scoring import Floats, Result, Scoring

BUDGET = (0.3, 30.0)  # geometric, first to last step
SHARP = (0.0, 2.0)  # linear
BETAS, EPS = (0.8, 0.95), 1e-8


def search(scoring: Scoring, *, k: int | None = None, steps: int = 24, lr: float = 0.4) -> Result:
    """Gates after `steps` gradient evaluations; the score of a layer is its gate, 0 to 1."""
    k = scoring.budget(k)
    if steps < 1:
        raise refuse("steps", steps, "1 or more")
    if not lr > 0.0:
        raise refuse("lr", lr, "above 0")
    lr = float(lr)
    linear = scoring.kl(np.zeros(scoring.layers, np.float32))
    unit = max(float(scoring.mean(linear)), 1e-12)
    theta = np.full(scoring.layers, _logit(k / scoring.layers))
    moments = np.zeros((2, scoring.layers))
    curve = []
    for step in scoring.bar(range(steps)):
        gates = _sigmoid(theta)
        kl, slope = scoring.gradient(gates.astype(np.float32))
        curve.append(float(scoring.mean(kl)))
        total = scoring.mean(slope) / unit + penalty_slope(gates, k, step / max(1, steps - 1))
        theta -= lr * _adam(total * gates * (1.0 - gates), moments, step + 1)
    gates = _sigmoid(theta)
    top = np.argsort(-gates, kind="stable")[:k]
    with scoring.as_reference():
        base = scoring.kl(scoring.set_gates(top.tolist()))
    options = {"k": k, "steps": steps, "lr": lr, "kl_by_step": curve}
    return Result(gates[:, None], base, linear, options)


def penalty(gates: Floats, k: int, progress: float) -> float:
    """The two penalties at a point of the way, 0 to 1."""
    budget, sharp = _strengths(progress)
    return float(budget * ((gates.sum() - k) / k) ** 2 + sharp * (gates * (1.0 - gates)).mean())


def penalty_slope(gates: Floats, k: int, progress: float) -> Floats:
    """d penalty / d gates [num_layers]."""
    budget, sharp = _strengths(progress)
    return 2.0 * budget * (gates.sum() - k) / k**2 + sharp * (1.0 - 2.0 * gates) / len(gates)


def _strengths(progress: float) -> tuple[float, float]:
    first, last = BUDGET
    return first * (last / first) ** progress, SHARP[0] + (SHARP[1] - SHARP[0]) * progress


def _adam(gradient: Floats, moments: Floats, step: int) -> Floats:
    """The update of one step; moments [2, n] move on."""
    for row, power, beta in ((0, 1, BETAS[0]), (1, 2, BETAS[1])):
        moments[row] += (1.0 - beta) * (gradient**power - moments[row])
    mean, square = (moments[i] / (1.0 - beta**step) for i, beta in enumerate(BETAS))
    return mean / (np.sqrt(square) + EPS)


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


def _logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))
