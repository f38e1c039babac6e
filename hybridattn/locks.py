"""Locks between processes that write to one place.

Ours, and not the `filelock` package, since a refused run is told which process holds the lock, and since the
file goes away with its last holder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import LockedError
from .files import OURS


def beside(path: str | os.PathLike[str], kind: str) -> Path:
    """A name of ours next to `path`: "out/probe" -> "out/.hybridattn-probe.KIND"."""
    target = Path(os.path.abspath(path))
    return target.with_name(f"{OURS}{target.name}.{kind}")


@contextmanager
def locked(path: str | os.PathLike[str], wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which says whose it is, until the block ends. The system lets go of it when
    the process dies, so a file that was left behind locks nothing.

    While another run holds it: waits if `wait`, else raises LockedError with the holder's process id.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LockedError(
                f"{path}: another run (process {holder}) writes here; wait for it, stop it, or give another "
                "--out"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # its last holder has just taken it away: try the new one
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
