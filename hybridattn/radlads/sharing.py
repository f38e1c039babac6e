"""Steps 2 and 3 shared out over ranks: each takes windows of every step, and updates its part of the
parameters.

    gradients of own windows  ->  sum over ranks, each of its part  ->  AdamW on the part  ->  weights to all

The windows of a step are cut into `leaves`, whose gradients are added along the tree of `tree.py`. So is the
norm, block by block. Moments exist where they are updated only (ZeRO-1, arXiv 1910.02054): the core maps
memory for all, and what is not touched takes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..distributed.communicator import CHUNK
from ..distributed.pieces import together
from . import tree
from .moments import Kind, arena

if TYPE_CHECKING:
    from .._core import Distiller
    from ..data.tokens import Tokens, Windows
    from ..distributed.group import World
    from ..model.model import Model

Floats = npt.NDArray[np.float32]
AfterStep = Callable[[int, float, float, int], object]
MOMENTS = 1  # tag of messages


class SharedRun(Protocol):
    """What is shared out of a `loop.TrainingRun`."""

    model: Model
    tokens: Tokens
    windows: Windows
    lr: Floats
    teacher_hidden: Floats | None
    weights: Floats | None
    labels: npt.NDArray[Any] | None
    segments: npt.NDArray[np.int32] | None

    @property
    def step_tokens(self) -> npt.NDArray[np.int64]: ...


class WindowSharing:
    """How the steps of one training run are shared out. `slice_seconds`: work between two agreements of all
    ranks on what comes next.
    """

    slice_seconds = 1.0

    def __init__(self, world: World, training: SharedRun) -> None:
        self.world, self.training = world, training
        windows = training.windows.shape[1]
        self.leaves = min(world.leaves, windows)
        self.bounds = [windows * leaf // self.leaves for leaf in range(self.leaves + 1)]
        shares = [tree.share(self.leaves, rank, world.size) for rank in range(world.size)]
        self.share = shares[world.rank]
        self.root = (0, self.leaves)
        self.nodes = [tree.cover(self.root, part) if part[0] < part[1] else [] for part in shares]
        self._spare: list[Floats] = []  # zero everywhere
        world.note_idle(self.leaves, "parts of a step")

    def facts(self) -> dict[str, Any]:
        """What the result's bits depend on."""
        order = self.leaves if self.world.reduce == "tree" else f"{self.world.size} ranks"
        return {"reduce": [self.world.reduce, order]}

    # ---- steps

    def run(
        self, distiller: Distiller, start: int, stop: int, after: AfterStep, losses: npt.NDArray[np.float64]
    ) -> None:
        """Steps start .. stop - 1; losses [stop - start, 1]. As `_core.Distiller.run`, an error or a request
        to stop on any rank comes to all of them, and leaves all as after the last whole step.
        """
        blocks = distiller.blocks()
        firsts = [(len(blocks) - 1) * rank // self.world.size for rank in range(self.world.size + 1)]
        bounds = [int(blocks[first]) for first in firsts]
        tokens = 0
        for step in range(start, stop):
            total, loss = self._gradients(distiller, step, bounds)
            first, last = firsts[self.world.rank], firsts[self.world.rank + 1]
            squares = self.world.allgather(distiller.squares(total, first, last))
            norm = math.sqrt(float(np.cumsum(np.concatenate([[0.0], *squares]))[-1]))  # in order
            rates = self.training.lr[step]
            distiller.update(total, first, last, norm, (float(rates[0]), float(rates[1])))
            total[bounds[0] : bounds[-1]] = 0.0
            self._spare.append(total)
            if self.world.size > 1:
                self.world.gather_parts(distiller.arena("weights").numpy(), bounds)
            distiller.step += 1
            losses[step - start, 0] = loss
            tokens += int(self.training.step_tokens[step])
            after(step, loss, norm, tokens)

    def _gradients(self, distiller: Distiller, step: int, bounds: list[int]) -> tuple[Floats, float]:
        """(the gradient, whole in this rank's part of the arena, and the loss)."""
        found: dict[int, float] = {}
        nodes = self.nodes[self.world.rank]
        if self.world.reduce == "fast":
            return self._fast(distiller, step, bounds)

        def work() -> dict[int, float]:
            sums.extend(tree.fold(node, leaf, add) for node in nodes)
            return found

        def leaf(node: tree.Node) -> Floats | None:
            if node[1] - node[0] > 1:
                return None
            out = self._take(distiller)
            found[node[0]] = self._windows(distiller, step, self.bounds[node[0]], self.bounds[node[1]], out)
            return out

        def add(left: Floats, right: Floats) -> Floats:
            distiller.fold(left, right)
            self._spare.append(right)
            return left

        sums: list[Floats] = []
        try:
            heard_losses = together(self.world, work)
        except BaseException:
            self._spare.clear()  # what was interrupted is not zero
            raise
        by_leaf = {leaf_: loss for losses in heard_losses for leaf_, loss in losses.items()}
        loss = float(np.cumsum([by_leaf[leaf_] for leaf_ in range(self.leaves)])[-1])
        if self.world.size == 1:
            return sums[0], loss
        total = sums[0] if sums else self._take(distiller)
        self._combine(dict(zip(nodes, sums, strict=True)), total, bounds)
        for buffer in sums[1:]:
            buffer[bounds[0] : bounds[-1]] = 0.0
            self._spare.append(buffer)
        return total, loss

    def _fast(self, distiller: Distiller, step: int, bounds: list[int]) -> tuple[Floats, float]:
        """As `_gradients`, in the order of the MPI library: one sum a rank, and one between ranks."""
        first, stop = self.bounds[self.share[0]], self.bounds[self.share[1]]
        own = self._take(distiller)
        heard = together(
            self.world,
            lambda: self._windows(distiller, step, first, stop, own) if first < stop else 0.0,
        )
        if self.world.size > 1:
            self.world.reduce_parts(own, bounds)
        return own, float(sum(heard))

    def _take(self, distiller: Distiller) -> Floats:
        """Room for a gradient, all zero."""
        return (
            self._spare.pop()
            if self._spare
            else np.zeros(distiller.arena("weights").numpy().size, np.float32)
        )

    def _windows(self, distiller: Distiller, step: int, first: int, stop: int, out: Floats) -> float:
        """The loss of windows first .. stop - 1 of a step, whose gradients are added to `out`."""
        training, one = self.training, slice(step, step + 1)
        return distiller.gradients(
            training.tokens,
            training.windows[one],
            first,
            stop,
            out,
            training.teacher_hidden,
            training.weights,
            None if training.labels is None else training.labels[one],
            training.segments,
        )

    def _combine(self, own: dict[tree.Node, Floats], total: Floats, bounds: list[int]) -> None:
        """The sum over all ranks' nodes, into this rank's part of `total`, along the tree. A chunk of every
        part at a time goes to its rank.
        """
        world, nodes = self.world, [node for part in self.nodes for node in part]
        tags = {node: tag for tag, node in enumerate(nodes)}
        longest = max(b - a for a, b in pairwise(bounds))
        room = {node: np.empty(CHUNK, np.float32) for node in nodes if node not in own}
        others = [rank for rank in range(world.size) if rank != world.rank]
        for at in range(0, longest, CHUNK):
            spans = [(min(a + at, b), min(a + at + CHUNK, b)) for a, b in pairwise(bounds)]
            first, stop = spans[world.rank]
            here = {node: array[: stop - first] for node, array in room.items()}
            requests = [
                world.expect(here[node], rank, tags[node])
                for rank in others
                for node in self.nodes[rank]
                if first < stop
            ]
            requests += [
                world.post(array[slice(*spans[rank])], rank, tags[node])
                for rank in others
                for node, array in own.items()
                if spans[rank][0] < spans[rank][1]
            ]
            world.move(*requests)
            here.update({node: array[first:stop] for node, array in own.items()})
            result = tree.fold(self.root, here.get, lambda left, right: np.add(left, right, out=left))
            total[first:stop] = result

    # ---- checkpoints

    def collect(self, distiller: Distiller) -> dict[str, npt.NDArray[Any]]:
        """AdamW's moments "m" and "v" like the arena, whole on rank 0, elsewhere {}."""
        blocks, world = distiller.blocks(), self.world
        firsts = [(len(blocks) - 1) * rank // world.size for rank in range(world.size + 1)]
        found: dict[str, npt.NDArray[Any]] = {}
        kinds: tuple[Kind, Kind] = ("m", "v")
        for kind in kinds:
            own = arena(distiller, kind)
            whole = np.zeros_like(own) if world.rank == 0 else own
            for rank in range(world.size):
                part = slice(int(blocks[firsts[rank]]), int(blocks[firsts[rank + 1]]))
                if rank == 0 and world.rank == 0:
                    whole[part] = own[part]
                elif world.rank == 0:
                    world.receive(whole[part], rank, MOMENTS)
                elif rank == world.rank:
                    world.send(own[part], 0, MOMENTS)
            if world.rank == 0:
                found[kind] = whole
        return found

    def own(self, distiller: Distiller) -> slice:
        """The part of the arena whose moments this rank needs."""
        blocks, world = distiller.blocks(), self.world
        count = len(blocks) - 1
        first, stop = (count * rank // world.size for rank in (world.rank, world.rank + 1))
        return slice(int(blocks[first]), int(blocks[stop]))

    def finish(self, distiller: Distiller) -> None:
        """All ranks have the same weights after every step."""
