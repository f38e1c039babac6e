"""Which rank updates which parameters in steps 2 and 3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .._core import Distiller

Span = tuple[int, int]  # [first, stop)


@dataclass(frozen=True)
class Parts:
    """The arena of parameters, cut in the order in which a backward pass finishes its gradients: every stage
    has a part for each rank, so that no rank has to receive all of its part at the end.

    starts int64 [blocks + 1]: where the core's blocks start, and the last one ends; firsts [stages][ranks +
    1]: the blocks of each rank are firsts[stage][rank] to firsts[stage][rank + 1] - 1.
    """

    starts: npt.NDArray[np.int64]
    firsts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, distiller: Distiller, ranks: int, by_stage: bool) -> Parts:
        """by_stage False: the whole arena is one stage."""
        starts = distiller.blocks()
        stages = distiller.stages() if by_stage else np.zeros(len(starts) - 1, np.int64)
        firsts = []
        for stage in range(int(stages.max(initial=-1)) + 1):
            own = np.flatnonzero(stages == stage)  # one after the other in the arena
            first, stop = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
            here, rank = starts[first : stop + 1], np.arange(ranks + 1)
            cuts = here[0] + (here[-1] - here[0]) * rank // ranks
            firsts.append(tuple((first + np.searchsorted(here, cuts)).tolist()))
        return cls(starts, tuple(firsts))

    @property
    def stages(self) -> int:
        return len(self.firsts)

    @property
    def bounds(self) -> list[list[int]]:
        """[stages][ranks + 1]: where each rank's part of a stage starts in the arena; the end of the last."""
        return [self.starts[list(firsts)].tolist() for firsts in self.firsts]

    @property
    def trained(self) -> slice:
        """All of the arena that is trained."""
        return slice(int(self.starts[0]), int(self.starts[-1]))

    def spans(self, stage: int) -> list[Span]:
        """By rank: its part of a stage in the arena."""
        return list(pairwise(self.bounds[stage]))

    def blocks(self, rank: int) -> Iterator[Span]:
        """A rank's blocks, stage by stage."""
        for firsts in self.firsts:
            if firsts[rank] < firsts[rank + 1]:
                yield firsts[rank], firsts[rank + 1]

    def slices(self, rank: int) -> list[slice]:
        """A rank's part of the arena."""
        return [slice(int(self.starts[first]), int(self.starts[stop])) for first, stop in self.blocks(rank)]
