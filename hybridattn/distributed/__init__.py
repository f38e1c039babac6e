"""Several processes, on one machine or many, that do one job together over MPI.

    mpiexec -n 4 hybridattn run recipe.toml --out out       # every command, as it is

    with ha.distributed.world():                            # in a script that mpiexec runs
        probe = ha.align(teacher, {"kind": "window_linear"}, data, steps=100, batch_size=8)

Every rank runs the same program. Inside `world` training, scores and evaluation share out their work; files
are written by rank 0. Outside of it, and without mpi4py, nothing changes.
"""

from typing import TYPE_CHECKING

from ..lazy import contents, face

__all__ = ["World", "agree", "alone", "by_first", "current", "is_writer", "launched", "spread", "world"]

if TYPE_CHECKING:
    from .group import World as World
    from .launcher import launched as launched
    from .pieces import agree as agree
    from .pieces import by_first as by_first
    from .pieces import spread as spread
    from .ranks import world as world
    from .state import alone as alone
    from .state import current as current
    from .state import is_writer as is_writer
else:
    __getattr__ = face(
        __name__,
        {
            "World": "group",
            "agree": "pieces",
            "alone": "state",
            "by_first": "pieces",
            "current": "state",
            "is_writer": "state",
            "launched": "launcher",
            "spread": "pieces",
            "world": "ranks",
        },
    )

__dir__ = contents(__name__)
