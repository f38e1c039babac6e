"""Whether an MPI launcher started this process, by the variables that it sets: nothing of MPI is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping

# Launchers by the variable that holds the number of ranks: name, and how to give each rank {n} cores.
LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": ("Open MPI", "--map-by slot:PE={n}"),
    "MV2_COMM_WORLD_SIZE": ("MVAPICH", "MV2_ENABLE_AFFINITY=0"),
    "PMI_SIZE": ("MPICH", "-bind-to core:{n}"),
}
SLURM = ("Slurm", "--cpus-per-task={n}")
# the number of this rank, by launcher
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an MPI launcher started this process, be it with one rank."""
    return launcher(environment) is not None


def launcher(environment: Mapping[str, str]) -> tuple[str, str, int] | None:
    """(name, flag for cores, ranks) of the launcher, or None."""
    for variable, (name, flag) in LAUNCHERS.items():
        count = environment.get(variable, "")
        if count.isdecimal():
            if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
                name, flag = SLURM
            return name, flag, int(count)
    if "PMIX_RANK" in environment and environment.get("SLURM_STEP_NUM_TASKS", "").isdecimal():
        return *SLURM, int(environment["SLURM_STEP_NUM_TASKS"])
    return None


def rank_by_launcher(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this rank as the launcher says it; 0 without a launcher."""
    given = [environment[name] for name in _RANKS if environment.get(name, "").isdecimal()]
    return int(given[0]) if given and launched(environment) else 0
