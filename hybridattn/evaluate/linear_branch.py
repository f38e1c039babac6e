"""What the linear branch of `window_linear` is worth: KL with it and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checks import refuse
from ..radlads.teacher import final_hidden
from ..results.progress import bar
from .text import kl

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model


@dataclass(frozen=True)
class Branches:
    """KL from the teacher in nats per token: of `both` branches, of the window's `softmax` alone in every
    layer, and of the `linear` part alone (with the token itself and the sinks).

    by_layer: {layer: KL with the linear branch off in that layer only}, empty unless asked for.
    softmax - both is what the linear branch is worth: near 0, and the model is a sliding window.
    """

    both: float
    softmax: float
    linear: float
    by_layer: dict[int, float]

    @property
    def worth(self) -> float:
        return self.softmax - self.both


def branches(
    student: Model, teacher: Model, data: TokenData, *, by_layer: bool = True, progress: bool = False
) -> Branches:
    """Read `data` with parts of the linear mixers switched off. Costs one pass of the teacher, three of
    `student`, and with by_layer one for each of its layers of window_linear that run. Raises ConfigError
    where there is none.
    """
    linear = [
        layer
        for layer, specs in enumerate(student.layers)
        if any(spec["kind"] == "window_linear" for spec in specs) and _runs(student, layer)
    ]
    if not linear:
        raise refuse("layers", "none of window_linear", "a model in which a layer of window_linear runs")
    hidden = final_hidden(teacher, data)

    def read(branch: str, layer: int | None = None) -> float:
        try:
            student.set_branch(branch, layer)  # type: ignore[arg-type]
            return kl(student, teacher, data, teacher_hidden=hidden).kl
        finally:
            student.set_branch("both")

    both, softmax, alone = read("both"), read("softmax"), read("linear")
    wanted = linear if by_layer else []
    return Branches(both, softmax, alone, {i: read("softmax", i) for i in bar(wanted, "branches", progress)})


def _runs(model: Model, layer: int) -> bool:
    """Whether the gate lets the linear mixer of a layer run."""
    return len(model.layers[layer]) == 1 or bool(model.gates[layer] < 1.0)
