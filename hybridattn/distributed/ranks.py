"""The block of a program that runs on several ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import _core
from ..checks import check_choice, check_int
from ..errors import ConfigError
from ..stop import on_signals
from . import launch
from .group import World
from .pieces import agree, describe
from .state import OVERLAP, REDUCE, current, entered


@contextmanager
def world(
    comm: Any = None, *, reduce: str = "tree", leaves: int = 8, overlap: str = "auto"
) -> Iterator[World]:
    """The block in which this process works together with the other ranks of `comm`, an mpi4py communicator
    (None: a copy of MPI.COMM_WORLD). Every rank has to run the same calls in it. See `World` for the rest.

    An error on one rank alone ends all of them, with a message that names it; so does a rank that dies.
    Raises ConfigError when mpi4py is missing or inside another world, DataError when ranks run
    different versions.
    """
    check_choice("reduce", reduce, REDUCE)
    check_int("leaves", leaves)
    check_choice("overlap", overlap, OVERLAP)
    if current() is not None:
        raise ConfigError("world is entered inside another one; allowed: one at a time")
    found = World(launch.communicator() if comm is None else comm.Dup(), reduce, leaves, overlap)
    try:
        with entered(found), on_signals():
            version = _core.show_config()["version"]
            agree("world", {"version": version, "reduce": reduce, "leaves": leaves, "overlap": overlap})
            found.fit_threads()
            yield found
            found.barrier()
    except BaseException as error:
        if found.watch is not None:
            found.watch.fail(describe(error))
        if found.size > 1:
            error.add_note(f"on rank {found.rank} of {found.size}")
        raise
    if found.watch is not None:
        found.watch.close()
