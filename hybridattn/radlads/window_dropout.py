"""Window dropout: in a share of the steps `window_linear` trains without its softmax window.

A window does nearly all of the work when linear attention stands beside it (arXiv 2510.05901), and the linear
part then hardly learns. Where the window is hidden, softmax sees the token itself and the attention sinks,
and the linear part every other key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..checks import refuse

if TYPE_CHECKING:
    from .loop import TrainingRun

_STREAM = 1 << 20  # beside what else is drawn by (seed, step)


def hides(seed: int, step: int, share: float) -> bool:
    """Whether a step trains without its windows: the same on every rank and after every resume."""
    return bool(np.random.default_rng([seed, step, _STREAM]).random() < share)


@contextmanager
def window_dropout(training: TrainingRun, share: float, seed: int) -> Iterator[None]:
    """For the length of a `with` block every step of `training` draws whether its windows are hidden. Raises
    ConfigError for a model without window_linear.
    """
    model = training.model
    if share == 0.0:
        yield
        return
    if not any(spec["kind"] == "window_linear" for specs in model.layers for spec in specs):
        raise refuse("window_dropout", share, "0 for a model without window_linear")
    others = training.before

    def before(step: int) -> None:
        if others is not None:
            others(step)
        model.set_branch("linear" if hides(seed, step, share) else "both")

    training.before = before
    try:
        yield
    finally:
        model.set_branch("both")
