"""Step 1 shared out over ranks: each aligns some layers, and the teacher's stream goes from rank to rank.

Layers do not depend on each other given the teacher's stream, and the teacher does not change: rank 0 embeds
a step's windows, takes them through its layers and sends what comes out to rank 1, which does the same step
while rank 0 is at the next one. No layer runs twice and no gradient is sent, and a layer's numbers are those
that one process gives, bit for bit. Only one message a step passes between two ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from ..distributed.pieces import Stopped, together
from . import tree
from .moments import Kind, arena

if TYPE_CHECKING:
    from .._core import Distiller
    from ..distributed.group import World
    from .sharing import AfterStep, Floats, SharedRun

GO, STREAM, ASK, LAYER = 11, 12, 13, 14  # tags of messages


class LayerSharing:
    """As `WindowSharing`. At an agreement of all ranks the last of them has steps to catch up with, so there
    are few.
    """

    slice_seconds = 120.0

    def __init__(self, world: World, training: SharedRun) -> None:
        self.world, self.training = world, training
        layers = len(training.model.layers)
        self.used = min(world.size, layers)
        self.ranges = [
            tree.share(layers, rank, self.used) if rank < self.used else (layers, layers)
            for rank in range(world.size)
        ]
        self.range = self.ranges[world.rank]
        world.note_idle(layers, "layers")

    def facts(self) -> dict[str, Any]:
        """Bits do not depend on ranks."""
        return {}

    # ---- steps

    def run(
        self, distiller: Distiller, start: int, stop: int, after: AfterStep, losses: npt.NDArray[np.float64]
    ) -> None:
        """Steps start .. stop - 1; losses [stop - start, layers], whole on all ranks. A request to stop on
        any rank goes to rank 0, which ends all of them after the same step.
        """
        world, asked = self.world, False

        def work() -> int:
            nonlocal asked
            tokens = 0
            for step in range(start, stop):
                incoming, outgoing = self._begin(step, asked)
                if incoming is False:
                    return step
                while True:
                    try:
                        found = self._step(distiller, step, incoming, outgoing)
                        break
                    except KeyboardInterrupt:
                        asked = True
                        if world.rank == 0:
                            self._say(0)
                            return step
                losses[step - start] = found
                if world.rank + 1 < self.used:
                    self._say(1)
                    assert outgoing is not None
                    world.send(outgoing, world.rank + 1, STREAM)
                if asked and world.rank:
                    self._ask()
                tokens += int(self.training.step_tokens[step])
                own = found[found != 0.0]
                after(step, float(own.mean()) if len(own) else 0.0, 0.0, tokens)
            return stop

        self._asked = False
        # an error here leaves other ranks waiting for the stream: it ends the job, see distributed/watch.py
        reached = work() if world.rank < self.used else stop
        parts = together(world, lambda: (losses[:, slice(*self.range)].copy(), reached, asked))
        if world.rank == 0:
            self._drain(sum(wanted for _, _, wanted in parts[1:]))
        for (part, _, _), (first, last) in zip(parts, self.ranges, strict=True):
            losses[:, first:last] = part
        distiller.step = parts[0][1]
        if any(wanted for _, _, wanted in parts):
            raise Stopped

    def _begin(self, step: int, asked: bool) -> tuple[Any, Floats | None]:
        """(the stream in front of the own layers, room for that behind them); False in the place of the first
        when the run ends in front of this step.
        """
        world = self.world
        shape = (int(self.training.step_tokens[step]), int(self.training.model.config["hidden_size"]))
        outgoing = np.empty(shape, np.float32) if world.rank + 1 < self.used else None
        if world.rank == 0:
            if asked or world.waiting(ASK):
                self._say(0)
                return False, None
            return None, outgoing
        go = np.zeros(1, np.int64)
        world.receive(go, world.rank - 1, GO)
        if not go[0]:
            self._say(0)
            return False, None
        incoming = np.empty(shape, np.float32)
        world.receive(incoming, world.rank - 1, STREAM)
        return incoming, outgoing

    def _step(
        self, distiller: Distiller, step: int, incoming: Floats | None, outgoing: Floats | None
    ) -> npt.NDArray[np.float64]:
        training, one = self.training, slice(step, step + 1)
        return distiller.align_part(
            training.tokens,
            training.windows[one],
            training.lr[one],
            *self.range,
            incoming,
            outgoing,
            training.segments,
        )

    def _say(self, go: int) -> None:
        """To the next rank: another step comes (1), or none (0)."""
        if self.world.rank + 1 < self.used:
            self.world.send(np.array([go], np.int64), self.world.rank + 1, GO)

    def _ask(self) -> None:
        """Tell rank 0, once, that this rank wants to stop."""
        if not self._asked:
            self._asked = True
            self._request = self.world.post(np.ones(1, np.int64), 0, ASK)

    def _drain(self, count: int) -> None:
        """On rank 0: take the requests to stop that were sent."""
        for _ in range(count):
            self.world.receive(np.zeros(1, np.int64), None, ASK)

    # ---- checkpoints

    def collect(self, distiller: Distiller) -> dict[str, npt.NDArray[Any]]:
        """As `WindowSharing.collect`; rank 0 also gets the weights of the other ranks' layers."""
        found: dict[str, npt.NDArray[Any]] = {}
        world, kinds = self.world, get_args(Kind)
        for kind in kinds:
            own = arena(distiller, kind)
            whole = own if kind == "weights" or world.rank else np.zeros_like(own)
            parts = [self._parts(distiller, rank) for rank in range(self.used)]
            world.collect_parts(own, whole, parts, LAYER)
            if world.rank == 0 and kind != "weights":
                found[kind] = whole
        return found

    def _parts(self, distiller: Distiller, rank: int) -> list[slice]:
        """The trained parameters of a rank's layers as slices of the arena."""
        arena, arrays = distiller.arena("weights").numpy(), self.training.model.arrays(stored=False)
        first, stop = self.ranges[rank]
        found = []
        for name in distiller.trainable():
            if first <= int(name.split(".")[1]) < stop:
                found.append(span(arena, arrays[name]))
        return found

    def own(self, distiller: Distiller) -> list[slice]:
        """The parts of the arena that hold this rank's moments."""
        return self._parts(distiller, self.world.rank)

    def finish(self, distiller: Distiller) -> None:
        """The weights of every layer to every rank."""
        arena = distiller.arena("weights").numpy()
        for rank in range(self.used):
            for part in self._parts(distiller, rank):
                self.world.broadcast(arena[part], rank)


def span(arena: npt.NDArray[Any], array: npt.NDArray[Any]) -> slice:
    """Where an array that lies in an arena does so."""
    start = (array.__array_interface__["data"][0] - arena.__array_interface__["data"][0]) // arena.itemsize
    return slice(start, start + array.size)
