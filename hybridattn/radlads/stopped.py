"""What Ctrl-C leaves of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.model import Model
    from ..model.result import TrainResult


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training. `model` is as it was after the last whole step, the probe of `align` or the
    hybrid; `result` holds the losses up to there.
    """

    def __init__(self, model: Model, result: TrainResult, steps: int) -> None:
        super().__init__(
            f"stopped after {result.steps} of {steps} steps; "
            "hybridattn.radlads.interrupted() has the model and its losses"
        )
        self.model, self.result = model, result
        _last[:] = [self]


_last: list[Interrupted] = []


def interrupted() -> Interrupted | None:
    """The last training that Ctrl-C ended, with `model` and `result`: in a notebook the cell's own name for
    them was never assigned. None when there was none, or when training has begun anew.
    """
    return _last[0] if _last else None


def forget() -> None:
    """Nothing is kept any more."""
    _last.clear()
