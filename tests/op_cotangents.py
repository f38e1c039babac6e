"""Gradients of an op's results, for tests of its vector-Jacobian product."""

from __future__ import annotations

import numpy as np
from cases import LOSSES, Arrays, Case

from hybridattn._core import ops


def cotangents(case: Case, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Random float32 gradients of the results; of a loss, the same for every token."""
    rng = case.rng()
    shapes = [result.shape for result in case.call(ops, arrays)]
    if case.op in LOSSES:
        return tuple(np.full(shape, rng.standard_normal(), np.float32) for shape in shapes)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)
