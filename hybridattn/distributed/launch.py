"""How this process was started, mpi4py when it is asked for, and whether ranks have the cores they need."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import _core
from ..errors import ConfigError
from .launcher import launcher

INSTALL = "pip install 'hybridattn[mpi]'"
_CHOSEN = ("HYBRIDATTN_NUM_THREADS", "OMP_NUM_THREADS")


def communicator() -> Any:
    """A copy of MPI.COMM_WORLD. ConfigError when mpi4py or an MPI library is missing, or when the launcher is
    of another MPI than the library, so that every rank believes to be the only one.
    """
    started = launcher(os.environ)
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ConfigError(f"mpi4py cannot be imported ({error}); allowed with ranks: {INSTALL}") from None
    except RuntimeError as error:  # mpi4py is there and finds no library
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"mpi4py: {reason}; allowed: an MPI library where it looks, as from {INSTALL}, or its "
            "path in MPI4PY_LIBMPI"
        ) from None
    size = int(MPI.COMM_WORLD.Get_size())
    if started is not None and started[2] != size:
        library = MPI.Get_library_version().split("\n")[0].strip("\x00 ")
        raise ConfigError(
            f"the launcher ({started[0]}) started {started[2]} ranks, but the MPI library ({library}) sees "
            f"{size}; allowed: launcher and library of one MPI (see which mpiexec is found first)"
        )
    return MPI.COMM_WORLD.Dup()


@dataclass(frozen=True)
class Place:
    """Where a rank runs: host, cores that it may use, cores of the host, threads, and whether these were
    asked for.
    """

    host: str
    cores: tuple[int, ...]
    all_cores: int
    threads: int
    chosen: bool


def place(host: str) -> Place:
    """This process's."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    chosen = any(name in os.environ for name in _CHOSEN)
    return Place(host, cores, os.cpu_count() or len(cores), _core.get_num_threads(), chosen)


def share_of_cores(places: list[Place], rank: int) -> int:
    """Threads that a rank can have so that those of all ranks which may use its cores have one core each."""
    own = places[rank]
    rivals = sum(other.host == own.host and bool(set(own.cores) & set(other.cores)) for other in places)
    return max(1, len(own.cores) // rivals)


def warnings_of(places: list[Place], environment: Mapping[str, str] = os.environ) -> list[str]:
    """What is wrong with cores and threads, one line each, with the launcher's flag that cures it."""
    started = launcher(environment)
    name, flag = (started[0], started[1]) if started else ("the launcher", "")
    found = []
    for rank, own in enumerate(places):
        cure = f"; with {name} give {flag.format(n=own.threads)}" if flag else ""
        if own.threads > len(own.cores) and len(own.cores) < own.all_cores:
            found.append(
                f"rank {rank} has {own.threads} threads and may use {_count(len(own.cores), 'core')} of "
                f"{own.host}'s {own.all_cores}{cure}"
            )
    for host in dict.fromkeys(own.host for own in places):
        here = [own for own in places if own.host == host]
        cores = {core for own in here for core in own.cores}
        threads = sum(own.threads for own in here)
        bound = all(len(own.cores) < own.all_cores for own in here)
        fit = max(1, here[0].all_cores // len(here))
        if threads > len(cores) and not any(f"of {host}'s" in line for line in found):
            found.append(
                f"{host}: {_count(len(here), 'rank')} have {threads} threads for "
                f"{_count(len(cores), 'core')}; allowed without waiting for each other: "
                f"{_less(len(here), len(cores))}"
            )
        elif bound and len(cores) < here[0].all_cores and fit > here[0].threads:
            cure = f"; with {name} give {flag.format(n=fit)}" if flag else ""
            found.append(
                f"{host}: ranks are bound to {_count(len(cores), 'core')} of {here[0].all_cores}, "
                f"the others stay idle{cure}"
            )
    return found


def _less(ranks: int, cores: int) -> str:
    """What fits the cores of a host."""
    return (
        f"{ranks} ranks with --threads {cores // ranks}"
        if ranks <= cores
        else f"at most {_count(cores, 'rank')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def complain(lines: list[str]) -> None:
    """Print warnings to stderr."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr, flush=True)
