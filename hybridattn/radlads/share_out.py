"""Whether and how a training run is shared out over the ranks of the current world, and what its trainer
needs of that: one set of decisions, and moments in parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..distributed.pieces import agree
from ..distributed.state import current
from .layer_sharing import LayerSharing, span
from .moments import arena, moments
from .sharing import SharedRun, WindowSharing

if TYPE_CHECKING:
    from .._core import Distiller

Value = TypeVar("Value")


class ShareOut:
    """A training run on the ranks of a world, or (world None) on this process alone.

    align: whether it is of step 1, whose layers are shared out; of the other steps it is the windows.
    """

    def __init__(self, training: SharedRun, align: bool) -> None:
        self.world = current()
        self.how: LayerSharing | WindowSharing | None = None
        if self.world is not None:
            self.how = (LayerSharing if align else WindowSharing)(self.world, training)

    @property
    def slice_seconds(self) -> float:
        """Of work between two decisions."""
        return 1.0 if self.how is None else self.how.slice_seconds

    def facts(self) -> dict[str, Any]:
        """What the result's bits depend on, beside the settings of the run."""
        return {} if self.how is None else self.how.facts()

    def decide(self, value: Value) -> Value:
        """Rank 0's value, which may depend on its clock, on all ranks."""
        return value if self.world is None else self.world.share(value)

    def check(self, name: str, facts: dict[str, Any]) -> None:
        """DataError unless all ranks have the same facts."""
        agree(name, facts)

    def finish(self, distiller: Distiller) -> None:
        """At the end of a phase: the same weights on all ranks."""
        if self.how is not None:
            self.how.finish(distiller)

    def whole(self, distiller: Distiller) -> dict[str, np.ndarray]:
        """{"m.NAME": array, "v.NAME": ..}: all moments, for a checkpoint; only rank 0 gets them."""
        if self.how is None:
            return moments(distiller)
        collected, views = self.how.collect(distiller), moments(distiller)
        if not collected:
            return views
        arenas = {kind: arena(distiller, kind) for kind in collected}  # type: ignore[arg-type]
        return {
            name: collected[name[0]][span(arenas[name[0]], view)].reshape(view.shape)
            for name, view in views.items()
        }

    def parts(self, distiller: Distiller) -> dict[str, slice]:
        """Of every moment, which numbers this rank keeps."""
        if self.how is None:
            return {}
        own, found = self.how.own(distiller), {}
        for name, view in moments(distiller).items():
            place = span(arena(distiller, name[0]), view)  # type: ignore[arg-type]
            kept = [slice(max(part.start, place.start), min(part.stop, place.stop)) for part in own]
            kept = [part for part in kept if part.start < part.stop] or [slice(place.start, place.start)]
            # parts of one parameter lie side by side
            found[name] = slice(kept[0].start - place.start, kept[-1].stop - place.start)
        return found
