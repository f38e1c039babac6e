"""The ranks that a block of a program runs on."""

from __future__ import annotations

import os
import socket
from typing import Any

from .. import _core
from ..errors import ConfigError
from . import launch
from .communicator import Communicator
from .watch import Watch


class World(Communicator):
    """Ranks that work together. reduce: how gradients of steps 2 and 3 are added up, "tree" for the same bits
    with any number of ranks, "fast" for the order that the MPI library likes. leaves: into how many parts the
    windows of a step are cut for "tree"; bits depend on it, and more ranks than that are of no use. overlap:
    whether the sums of "tree" are under way while the backward pass is at work: "always", "never", or "auto",
    where ranks are on more than one machine. Bits do not depend on it.
    """

    def __init__(self, comm: Any, reduce: str, leaves: int, overlap: str) -> None:
        super().__init__(comm)
        self.reduce, self.leaves, self.overlap = reduce, leaves, overlap
        self._noted: set[str] = set()
        host = socket.gethostname()
        self.host = host
        self._own_counters: dict[str, int] = {}
        self.watch = None
        self.one_host = True
        if self.size > 1:
            hosts, levels = zip(*self.allgather((host, self.level)), strict=True)
            self.one_host, self.level = len(set(hosts)) == 1, min(levels)
            name = f"rank {self.rank} (process {os.getpid()} on {host})"
            self.watch = Watch(self.rank, self.size, name, self.share, self.one_host)

    @property
    def overlaps(self) -> bool:
        """Whether `overlap` comes to pass. ConfigError for "always" with an MPI that only the thread which
        started it may use: another one sends while that one computes.
        """
        able = self.level >= self._mpi.THREAD_SERIALIZED
        if self.size == 1 or self.reduce != "tree" or self.overlap == "never":
            return False
        if self.overlap == "always" and not able:
            raise ConfigError(
                f"overlap is 'always', and MPI was started for one thread (level {self.level}); allowed: "
                "'auto', 'never', or an MPI started with mpi4py.rc.thread_level = 'serialized' or more"
            )
        return able and (self.overlap == "always" or not self.one_host)

    def note_idle(self, pieces: int, what: str) -> None:
        """Say once when there are more ranks than pieces of some work."""
        if pieces < self.size and what not in self._noted:
            self._noted.add(what)
            first, last = pieces, self.size - 1
            who = f"rank {last} has" if first == last else f"ranks {first} to {last} have"
            if self.rank == 0:
                launch.complain([f"{pieces} {what} for {self.size} ranks: {who} nothing to do there"])

    def check_threads(self) -> None:
        """Warn where ranks have more threads than cores, or cores that nobody may use."""
        places = self.allgather(launch.place(self.host))
        if self.rank == 0:
            launch.complain(launch.warnings_of(places))

    def fit_threads(self) -> None:
        """Unless the number of threads was asked for: so many that no two ranks want one core."""
        places = self.allgather(launch.place(self.host))
        fitting = launch.share_of_cores(places, self.rank)
        if not places[self.rank].chosen and fitting < places[self.rank].threads:
            _core.set_num_threads(fitting)
        self.check_threads()

    def next(self, counter: str) -> int:
        """0, 1, 2, .. in the order in which ranks ask for it: pieces for whoever is free."""
        if self.watch is not None:
            return self.watch.next(counter)
        self._own_counters[counter] = self._own_counters.get(counter, -1) + 1
        return self._own_counters[counter]
