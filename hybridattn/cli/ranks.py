"""A command that mpiexec started on several ranks: one job, one voice."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable

from ..distributed.launcher import launched, rank_by_launcher

# what one rank does while the others wait: little work, or work whose time is measured
SINGLE = ("plan", "generate", "export", "fetch", "info")


def first_speaks() -> None:
    """On ranks other than 0, by the launcher's word, print nothing from here on: rank 0 says it, and what one
    rank alone has to say goes there (see distributed/watch.py).
    """
    if rank_by_launcher() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  to the end of the process
        sys.stderr = sys.stdout
        warnings.simplefilter("ignore")


def run(name: str, work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Do the work of a command, on the ranks of a world where a launcher started this process."""
    if not launched():
        work(options)
        return
    from ..distributed import agree, alone, world  # slow: loads the core

    with world() as found:
        agree(f"hybridattn {name}", {key: str(value) for key, value in sorted(vars(options).items())})
        found.reduce = getattr(options, "reduce", None) or found.reduce
        found.leaves = getattr(options, "leaves", None) or found.leaves
        found.overlap = getattr(options, "overlap", None) or found.overlap
        if name not in SINGLE:
            work(options)
        elif found.rank == 0:
            with alone():
                work(options)
