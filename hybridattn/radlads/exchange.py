"""The gradients of a step added up over ranks, while the backward pass is still at work or after it.

The backward pass ends stage by stage, from the last layer down. What it has finished is added up along the
rank's own branches of the tree and goes to the ranks that update it; what these receive they add up along the
rest of the tree. Every number is added in the order of the tree, whenever that happens.

All messages of a step are sent and received, also when a rank fails in it: it gives zeros for what it has
not, and `pieces.together` tells the others afterwards. So no message is left behind, and ranks can go on
after an error.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..distributed.communicator import CHUNK
from . import tree
from .parts import Parts, Span

if TYPE_CHECKING:
    from ..distributed.group import World

Floats = npt.NDArray[np.float32]
ROOMS = 2  # chunks that may be on their way to this rank from each other node: one comes, one is added up
PAUSE = 5e-4  # seconds between two looks at messages while the backward pass has the cores


@dataclass
class Incoming:
    """A chunk of the own part of a stage, and the other ranks' share of it that is on its way. room: longer
    than the chunk, by node.
    """

    stage: int
    span: Span
    room: dict[tree.Node, Floats]
    requests: list[Any]


class Exchange:
    """One step's. nodes: the nodes of the tree that each rank sums up by itself; parts: who updates what.

    make: gives an array like the arena. known: such arrays, for nodes at or below this rank's own ones from
    left to right, which the caller fills in before `advance` is told that a stage is final.
    """

    def __init__(
        self, world: World, nodes: Sequence[Sequence[tree.Node]], parts: Parts, make: Callable[[], Floats]
    ) -> None:
        self.world, self.parts = world, parts
        self.known: dict[tree.Node, Floats] = {}
        self._make = make
        self._own = nodes[world.rank]
        every = [node for part in nodes for node in part]
        self._tags = {node: tag for tag, node in enumerate(every)}
        self._root = (every[0][0], every[-1][1])
        self._others = [(world.rank + i) % world.size for i in range(1, world.size)]
        self._foreign = [(rank, node) for rank in self._others for node in nodes[rank]]
        self._spans = [parts.spans(stage) for stage in range(parts.stages)]
        self._due = deque(
            (stage, chunk) for stage, spans in enumerate(self._spans) for chunk in chunks(spans[world.rank])
        )
        longest = max((stop - first for _, (first, stop) in self._due), default=0)
        self._rooms = [
            {node: np.empty(longest, np.float32) for _, node in self._foreign} for _ in range(ROOMS)
        ]
        self._coming: deque[Incoming] = deque()
        self._sent: list[Any] = []
        self._final = 0  # stages that were sent
        self._zeros: Floats | None = None
        self._error: BaseException | None = None

    @cached_property
    def total(self) -> Floats:
        """Where this rank's parts of the sum are in the end."""
        return next(iter(self.known.values())) if self.known else self._make()

    # ---- how it goes on

    @contextmanager
    def beside(self, final: Callable[[], int]) -> Iterator[None]:
        """Within the block another thread sends and adds up what is ready; the block itself must not use MPI.
        final: how many stages of `known` are final. Ends at once with the block; `finish` does the rest.
        """
        over = threading.Event()

        def work() -> None:
            try:
                while not over.is_set() and not self.advance(final()):
                    over.wait(PAUSE)
            except BaseException as error:
                self._error = error

        thread = threading.Thread(target=work, daemon=True, name="hybridattn-exchange")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def finish(self, sleep: bool) -> None:
        """All that is left, now that all stages are final. sleep: other ranks may have work to do before.
        An error here cannot be agreed on with ranks that wait for messages: it has to end the job.
        """
        if self._error is not None:
            raise self._error
        self.world.until(lambda: self.advance(self.parts.stages), sleep)

    def settle(self, worked: bool) -> None:
        """After the gradients: `finish`. When they failed, others get zeros for what they have not got yet,
        and nothing is added up any more.
        """
        if not worked:
            self._zeros = np.zeros(CHUNK, np.float32)
        self.finish(sleep=True)

    def advance(self, final: int) -> bool:
        """Do what can be done without waiting when so many stages are final; whether that was the rest."""
        for stage in range(self._final, final):
            self._send(stage)
        self._final = max(self._final, final)
        self._expect()
        while self._coming and self._coming[0].stage < self._final:
            if not self.world.test(*self._coming[0].requests):
                return False
            self._take(self._coming.popleft())
            self._expect()
        return self._final == self.parts.stages and not self._coming and self.world.test(*self._sent)

    # ---- messages

    def _send(self, stage: int) -> None:
        """Post other ranks' parts of a stage, a chunk to each rank at a time."""
        spans = self._spans[stage]
        waiting = [(rank, deque(chunks(spans[rank]))) for rank in self._others]
        while waiting := [(rank, left) for rank, left in waiting if left]:
            for rank, left in waiting:
                span = left.popleft()
                self._sent += [
                    self.world.post(self._value(node, span), rank, self._tags[node]) for node in self._own
                ]

    def _expect(self) -> None:
        """Begin to receive the next chunks, as long as there is room."""
        while self._rooms and self._due:
            (stage, span), room = self._due.popleft(), self._rooms.pop()
            requests = [
                self.world.expect(room[node][: span[1] - span[0]], rank, self._tags[node])
                for rank, node in self._foreign
            ]
            self._coming.append(Incoming(stage, span, room, requests))

    def _take(self, chunk: Incoming) -> None:
        """Add up a chunk that has come from everybody."""
        if self._zeros is None:
            first, stop = chunk.span
            here = {node: array[: stop - first] for node, array in chunk.room.items()}
            here |= {node: self._value(node, chunk.span) for node in self._own}
            self.total[first:stop] = tree.fold(self._root, here.get, add)
        self._rooms.append(chunk.room)

    def _value(self, node: tree.Node, span: Span) -> Floats:
        """The sum of an own node, of whose parts one is added to another."""
        if self._zeros is not None:
            return self._zeros[: span[1] - span[0]]
        here = {known: array[slice(*span)] for known, array in self.known.items()}
        return tree.fold(node, here.get, add)


def add(left: Floats, right: Floats) -> Floats:
    """left += right."""
    return np.add(left, right, out=left)


def chunks(span: Span) -> Iterator[Span]:
    """A span in pieces of CHUNK."""
    for first in range(*span, CHUNK):
        yield first, min(first + CHUNK, span[1])
