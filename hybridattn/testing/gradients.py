"""Gradients against finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .._core import Distiller, KLScorer
from ..model.model import Model

RELATIVE, ABSOLUTE = 0.02, 3e-4  # nats a unit of weight: what float32 leaves of a difference
# Of the differences: long ones hold some of the curve, short ones the rounding, and where a norm divides by
# little only the shortest is straight.
STEPS = (5e-3, 5e-4, 1e-4, 3e-5)


def gradients_are_slopes(
    hybrid: Model, teacher: Model, stream: npt.NDArray[np.int32], parts: Sequence[str]
) -> None:
    """The gradient of step 2's loss by every trained parameter whose name begins with one of `parts` is the
    slope along it, within 2 percent. stream: int32 [45 or more]; AssertionError names the parameter.
    """
    windows = np.array([[0, 40], [40, 45]])
    trainer = Distiller(hybrid.copy(), teacher, "distill", clip=1e9, micro_batch=2)
    trainer.run(stream, windows[None], np.zeros((1, 2), np.float32), 0, 1)
    own = {
        name: moment.numpy() / np.float32(0.1)  # AdamW's first moment after one step: (1 - beta1) g
        for name, moment in trainer.moments()["m"].items()
        if name.startswith(tuple(parts))
    }
    for name, gradient in own.items():
        norm = float(np.linalg.norm(gradient))
        # along the gradient where there is one, else along a direction in which nothing may change
        unit = gradient / norm if norm else np.full(gradient.shape, gradient.size**-0.5)
        along = np.asarray(unit, np.float32)
        found = []
        for step in STEPS:
            found.append(_slope(hybrid, teacher, stream, windows, name, along, step))
            if abs(found[-1] - norm) <= RELATIVE * norm + ABSOLUTE:
                break
        else:
            raise AssertionError(
                f"the gradient of {name} has the norm {norm:.4g}; differences along it show "
                f"{', '.join(f'{slope:.4g}' for slope in found)}, for shorter and shorter steps"
            )


def _slope(
    hybrid: Model,
    teacher: Model,
    stream: npt.NDArray[np.int32],
    windows: npt.NDArray[np.int64],
    name: str,
    along: npt.NDArray[np.float32],
    step: float,
) -> float:
    length = np.diff(windows)[:, 0]
    values = []
    for sign in (1, -1):
        moved = hybrid.copy()
        moved.arrays()[name][...] += np.float32(sign * step) * along
        values.append(float((KLScorer(moved, teacher).kl(stream, windows) * length).sum() / length.sum()))
    return (values[0] - values[1]) / (2 * step)
