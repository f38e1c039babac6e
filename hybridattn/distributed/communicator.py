"""What ranks say to each other, over an mpi4py communicator.

A rank that waits does not spin: MPI libraries poll without a pause, which on a shared machine takes the core
from the rank that is waited for. So every wait is a test and a short sleep, and only where all ranks are
known to be there are large arrays moved at full speed. Calls are made by all ranks together, unless they name
a rank.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import HybridAttnError

SPINS = 50  # tests before the first sleep
SLEEPS = (5e-5, 1e-3)  # seconds, doubled from the first to the second
CHUNK = 1 << 20  # numbers of a message when gradients are added up


class Communicator:
    """`comm`: an mpi4py intracommunicator that nothing else uses. `bytes_sent` and `seconds` count what this
    rank has put into arrays that it sent, and the time that all waits have taken.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi, self._comm = MPI, comm
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())
        self.level = int(MPI.Query_thread())  # which threads may use the library
        self.bytes_sent = 0
        self.seconds = 0.0

    # ---- waiting

    def test(self, *requests: Any) -> bool:
        """Whether all of them are done."""
        return bool(self._mpi.Request.Testall(list(requests)))

    def until(self, done: Callable[[], bool], sleep: bool = True) -> None:
        """Ask `done` until it is true, asleep in between. sleep False: for large arrays between ranks that
        are all there, as fast as it goes.
        """
        started, pause, asked = time.perf_counter(), SLEEPS[0], 0
        while not done():
            asked += 1
            if sleep and asked > SPINS:
                time.sleep(pause)
                pause = min(2.0 * pause, SLEEPS[1])
            elif not sleep or asked > 5:
                os.sched_yield()
        self.seconds += time.perf_counter() - started

    def wait(self, *requests: Any) -> None:
        """Until all of them are done, asleep in between."""
        self.until(lambda: self.test(*requests))

    def barrier(self) -> None:
        """Until every rank is here."""
        self.wait(self._comm.Ibarrier())

    # ---- Python objects

    def allgather(self, value: Any) -> list[Any]:
        """What each rank gave, in order of rank; the same list everywhere."""
        own = np.frombuffer(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), np.uint8)
        sizes = np.zeros(self.size, np.int64)
        self.wait(self._comm.Iallgather(np.array([own.size], np.int64), sizes))
        found = np.empty(int(sizes.sum()), np.uint8)
        places = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.bytes_sent += own.size * (self.size - 1)
        counts = (sizes.tolist(), places[:-1])
        self.wait(self._comm.Iallgatherv(own, [found, counts, self._mpi.BYTE]))
        return [pickle.loads(found[a:b].tobytes()) for a, b in pairwise(places)]

    def share(self, value: Any = None, root: int = 0) -> Any:
        """What rank `root` gave, everywhere."""
        own = self.rank == root
        data = np.frombuffer(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), np.uint8) if own else None
        size = np.array([0 if data is None else data.size], np.int64)
        self.wait(self._comm.Ibcast(size, root))
        buffer = np.empty(int(size[0]), np.uint8)
        if data is not None:
            buffer[:] = data
            self.bytes_sent += data.size * (self.size - 1)
        self.wait(self._comm.Ibcast(buffer, root))
        return value if own else pickle.loads(buffer.tobytes())

    # ---- arrays, contiguous and of one type

    def send(self, array: npt.NDArray[Any], to: int, tag: int) -> None:
        """Give `array` to a rank; ends when it may be changed again and the other one has it."""
        self.bytes_sent += array.nbytes
        self.wait(self._comm.Issend(_whole(array), to, tag))

    def receive(self, out: npt.NDArray[Any], source: int | None, tag: int) -> None:
        """Fill `out` with what a rank sends, or (None) any rank."""
        rank = self._mpi.ANY_SOURCE if source is None else source
        self.wait(self._comm.Irecv(_whole(out), rank, tag))

    def post(self, array: npt.NDArray[Any], to: int, tag: int) -> Any:
        """Begin to send; for `test`."""
        self.bytes_sent += array.nbytes
        return self._comm.Isend(_whole(array), to, tag)

    def expect(self, out: npt.NDArray[Any], source: int, tag: int) -> Any:
        """Begin to receive; for `test`."""
        return self._comm.Irecv(_whole(out), source, tag)

    def waiting(self, tag: int) -> bool:
        """Whether a message of that tag has come, from anybody."""
        return bool(self._comm.Iprobe(self._mpi.ANY_SOURCE, tag))

    def broadcast(self, array: npt.NDArray[Any], root: int) -> None:
        """`array` of rank `root` in the place of everybody's."""
        self.bytes_sent += array.nbytes * (self.size - 1) if self.rank == root else 0
        self.wait(self._comm.Ibcast(_whole(array), root))

    def collect_parts(
        self, array: npt.NDArray[Any], out: npt.NDArray[Any], parts: Sequence[Sequence[slice]], tag: int
    ) -> None:
        """On rank 0 `out` gets the parts of `array` that each rank has, by rank; on others it is not used."""
        for rank, slices in enumerate(parts):
            for part in slices:
                if rank == 0 and self.rank == 0:
                    out[part] = array[part]
                elif self.rank == 0:
                    self.receive(out[part], rank, tag)
                elif self.rank == rank:
                    self.send(array[part], 0, tag)

    def gather_parts(self, array: npt.NDArray[np.float32], bounds: Sequence[Sequence[int]]) -> None:
        """array[b[r]:b[r + 1]] of every rank r in the place of everybody's, for each b of bounds. All ranks
        are there.
        """
        requests = []
        for places in bounds:
            counts = np.diff(places).tolist()
            self.bytes_sent += 4 * counts[self.rank] * (self.size - 1)
            target = [_whole(array), (counts, list(places[:-1])), self._mpi.FLOAT]
            requests.append(self._comm.Iallgatherv(self._mpi.IN_PLACE, target))
        self.until(lambda: self.test(*requests), sleep=False)

    def reduce_parts(self, array: npt.NDArray[np.float32], bounds: Sequence[int]) -> None:
        """array[bounds[r]:bounds[r + 1]] becomes the sum over ranks on rank r, added in an order that the MPI
        library chooses. All ranks are there.
        """
        counts = np.diff(bounds).tolist()
        own = np.empty(counts[self.rank], np.float32)
        self.bytes_sent += 4 * (int(bounds[-1] - bounds[0]) - counts[self.rank])
        request = self._comm.Ireduce_scatter(_whole(array[bounds[0] : bounds[-1]]), own, counts)
        self.until(lambda: self.test(request), sleep=False)
        array[bounds[self.rank] : bounds[self.rank + 1]] = own


def _whole(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array that MPI may read or write as one piece."""
    if not array.flags.c_contiguous:
        raise HybridAttnError(
            f"array has strides {array.strides}; allowed between ranks: one piece of memory"
        )
    return array
