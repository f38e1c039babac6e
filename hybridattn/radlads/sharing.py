"""Steps 2 and 3 shared out over ranks: each takes windows of every step, and updates its part of the
parameters.

    gradients of own windows  ->  sum over ranks, each of its part  ->  AdamW on the part  ->  weights to all

The windows of a step are cut into `leaves`, whose gradients are added along the tree of `tree.py`, after the
last backward pass or during it (`exchange.py`). The norm is added up block by block. Moments
exist where they are updated only (ZeRO-1, arXiv 1910.02054): the core maps memory for all, and what is not
touched takes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..distributed.pieces import together
from . import tree
from .exchange import Exchange
from .moments import Kind, arena
from .parts import Parts

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
        self.overlaps = world.overlaps
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
        parts, tokens = self._parts(distiller), 0
        for step in range(start, stop):
            total, loss = self._gradients(distiller, step, parts)
            norm = self._norm(distiller, total, parts)
            rates = self.training.lr[step]
            for first, last in parts.blocks(self.world.rank):
                distiller.update(total, first, last, norm, (float(rates[0]), float(rates[1])))
            total[parts.trained] = 0.0
            self._spare.append(total)
            if self.world.size > 1:
                self.world.gather_parts(distiller.arena("weights").numpy(), parts.bounds)
            distiller.step += 1
            losses[step - start, 0] = loss
            tokens += int(self.training.step_tokens[step])
            after(step, loss, norm, tokens)

    def _parts(self, distiller: Distiller) -> Parts:
        return Parts.of(distiller, self.world.size, by_stage=self.overlaps)

    def _norm(self, distiller: Distiller, total: Floats, parts: Parts) -> float:
        """Of the whole gradient, of which each rank has its part; added up in the order of blocks."""
        own = [distiller.squares(total, *blocks) for blocks in parts.blocks(self.world.rank)]
        squares = np.zeros(len(parts.starts) - 1)
        for rank, found in enumerate(self.world.allgather(own)):
            for blocks, values in zip(parts.blocks(rank), found, strict=True):
                squares[slice(*blocks)] = values
        return math.sqrt(float(np.cumsum(squares)[-1]))

    def _gradients(self, distiller: Distiller, step: int, parts: Parts) -> tuple[Floats, float]:
        """(the gradient, whole in this rank's part of the arena, and the loss)."""
        if self.world.reduce == "fast":
            return self._fast(distiller, step, parts.bounds[0])
        exchange = Exchange(self.world, self.nodes, parts, lambda: self._take(distiller))
        found: dict[int, float] = {}

        def windows(leaf: int, out: Floats) -> None:
            found[leaf] = self._windows(distiller, step, self.bounds[leaf], self.bounds[leaf + 1], out)

        def leaf(node: tree.Node) -> Floats | None:
            if node[1] - node[0] > 1:
                return None
            out = self._take(distiller)
            windows(node[0], out)
            return out

        def add(left: Floats, right: Floats) -> Floats:
            distiller.fold(left, right)
            self._spare.append(right)
            return left

        def work() -> dict[int, float]:
            first, stop = self.share
            last = max(first, stop - 1) if self.overlaps else stop  # the leaf that sums are sent beside
            for node in tree.cover(self.root, (first, last)):
                exchange.known[node] = tree.fold(node, leaf, add)
            if last < stop:
                exchange.known[last, stop] = out = self._take(distiller)
                before = distiller.finished
                with exchange.beside(lambda: distiller.finished - before):
                    windows(last, out)
            return found

        try:
            heard_losses = together(self.world, work, exchange.settle if self.overlaps else None)
            if self.world.size > 1 and not self.overlaps:
                exchange.finish(sleep=False)
        except BaseException:
            self._spare.clear()  # what was interrupted is not zero
            raise
        by_leaf = {leaf_: loss for losses in heard_losses for leaf_, loss in losses.items()}
        loss = float(np.cumsum([by_leaf[leaf_] for leaf_ in range(self.leaves)])[-1])
        for buffer in exchange.known.values():
            if buffer is not exchange.total:
                buffer[parts.trained] = 0.0
                self._spare.append(buffer)
        return exchange.total, loss

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

    # ---- checkpoints

    def collect(self, distiller: Distiller) -> dict[str, npt.NDArray[Any]]:
        """AdamW's moments "m" and "v" like the arena, whole on rank 0, elsewhere {}."""
        world, parts = self.world, self._parts(distiller)
        found: dict[str, npt.NDArray[Any]] = {}
        kinds: tuple[Kind, Kind] = ("m", "v")
        for kind in kinds:
            own = arena(distiller, kind)
            whole = np.zeros_like(own) if world.rank == 0 else own
            world.collect_parts(own, whole, [parts.slices(rank) for rank in range(world.size)], MOMENTS)
            if world.rank == 0:
                found[kind] = whole
        return found

    def own(self, distiller: Distiller) -> list[slice]:
        """The parts of the arena whose moments this rank needs."""
        return self._parts(distiller).slices(self.world.rank)

    def finish(self, distiller: Distiller) -> None:
        """All ranks have the same weights after every step."""
