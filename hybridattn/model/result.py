"""What a training step did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..charts import views
from ..results import markup
from ..results.equality import Comparable


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult(Comparable):
    """What a training step did. losses float64 [steps, k]: one column per layer for `align`, else the loss
    per token.

    seconds and tokens_per_second are of this call: a resumed run counts only what it did itself. interrupted:
    Ctrl-C ended it, and losses holds the steps that were whole.
    """

    losses: npt.NDArray[np.float64]
    tokens_per_second: float
    seconds: float
    interrupted: bool = False

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def curve(self) -> npt.NDArray[np.float64]:
        """float64 [steps]: the mean over columns."""
        return self.losses.mean(axis=1)

    def __repr__(self) -> str:
        said = f"{self.steps} steps"
        if self.steps:
            said += f", loss {self.curve[0]:.4g} to {self.curve[-1]:.4g}"
        stopped = ", stopped early" if self.interrupted else ""
        return f"TrainResult({said}, {self.seconds:.0f} s, {self.tokens_per_second:,.0f} tokens/s{stopped})"

    def _repr_html_(self) -> str:
        return markup.box(repr(self)[12:-1], markup.curve(self.curve.tolist(), "loss by step"))

    def plot(self) -> Any:
        """A matplotlib figure of the loss by step. Needs the extra `report`."""
        return views.losses(self)
