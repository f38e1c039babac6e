"""Files written whole or not at all, JSON among them, files mapped for reading without a copy, and locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import LockedError


def file_digest(path: Path) -> str:
    """Digest of a file or folder by the names, sizes and bytes of its files."""
    state = hashlib.blake2b()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        size = file.stat().st_size
        state.update(f"{file.relative_to(path) if path.is_dir() else ''}|{size}|".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                state.update(block)
    return state.hexdigest()[:24]


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes under a temporary name, which becomes `path` when the block ends well.

    The data is on the disk before the name changes (fsync). After an error nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`, whole or not at all."""
    with atomic_open(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


def write_sheet(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON for people and programs, whole or not at all, made `finite`."""
    atomic_write(path, json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: None in the place of numbers that are not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def locked(path: str | os.PathLike[str], wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which says whose it is, until the block ends. The system lets go of it when
    the process dies, so a file that was left behind locks nothing.

    While another run holds it: waits if `wait`, else raises LockedError with the holder's process id.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
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


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems do not open folders; the rename is still atomic there
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


class MappedFile:
    """A file mapped read-only: `view` gives arrays without a copy, `drop` gives pages back to the system."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with open(self.path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ) if self.size else None

    def view(self, dtype: Any, offset: int, count: int) -> np.ndarray:
        """`count` numbers of `dtype` from byte `offset`, read-only; the caller has checked the bounds."""
        if count == 0:
            return np.empty(0, dtype)
        if self._map is None:
            raise ValueError(f"{self.path}: read after it was closed")
        return np.frombuffer(self._map, dtype, count, offset)

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes from byte `offset`; fewer when the file ends before."""
        return self._map[offset : offset + size] if self._map is not None else b""

    def drop(self, offset: int, size: int) -> None:
        """Say that these bytes are not needed soon, so that reading a large file does not fill the memory."""
        start = offset - offset % mmap.PAGESIZE
        if self._map is not None and size and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, offset + size - start)

    def close(self) -> None:
        """Unmap. An array from `view` that is still alive keeps the mapping until it goes."""
        mapping, self._map = self._map, None
        if mapping is not None:
            with suppress(BufferError):
                mapping.close()
