"""What a training step did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainResult:
    """What a training step did. losses float64 [steps, k]: one column per layer for `align`, else the loss
    per token.

    seconds and tokens_per_second are of this call: a resumed run counts only what it did itself.
    """

    losses: npt.NDArray[np.float64]
    tokens_per_second: float
    seconds: float

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def curve(self) -> npt.NDArray[np.float64]:
        """float64 [steps]: the mean over columns."""
        return self.losses.mean(axis=1)
