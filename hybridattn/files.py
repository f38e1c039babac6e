"""Files written whole or not at all, JSON among them, digests, and folders that are this program's own.

Names that start with `.hybridattn-` are ours: temporaries, locks, checkpoints of the command line. Nothing
else is ever taken away or emptied.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from .errors import DataError
from .reading import read_json

OURS = ".hybridattn-"  # the beginning of every name that we give to what is not a result
_STALE_SECONDS = 3600.0  # a temporary that nobody holds is swept away after this time
# worlds of ranks that calls are made in, innermost last; None: this process's own work, see `distributed`
worlds: list[_World | None] = []
_swept: set[str] = set()  # folders that this process has looked through


class _World(Protocol):
    rank: int


def is_writer() -> bool:
    """Whether this process writes files and shows progress: every one does, but for ranks of a world other
    than 0.
    """
    world = worlds[-1] if worlds else None
    return world is None or world.rank == 0


def file_digest(path: Path) -> str:
    """Digest of a file or folder by the names, sizes and bytes of its files."""
    state = hashlib.blake2b()
    inside = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith(OURS))
    files = sorted(inside) if path.is_dir() else [path]
    for file in files:
        size = file.stat().st_size
        state.update(f"{file.relative_to(path) if path.is_dir() else ''}|{size}|".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                state.update(block)
    return state.hexdigest()[:24]


def checksum(array: np.ndarray) -> str:
    """CRC-32 of the array's bytes, as eight hex digits: any single flipped bit changes it."""
    return f"{zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data):08x}"


def sheet_checksum(content: Mapping[str, Any]) -> str:
    """CRC-32 of what a JSON object says, "checksum" left out, however it is laid out."""
    as_read = json.loads(json.dumps({key: content[key] for key in content if key != "checksum"}))
    return f"{zlib.crc32(json.dumps(as_read, sort_keys=True).encode()):08x}"


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes under a temporary name, which becomes `path` when the block ends well.

    The temporary has a random name, is made new and never through a symbolic link, so that neither another
    process nor a planted link can share it; it takes over the permissions of a file that it replaces. The
    data is on the disk before the name changes (fsync). After an error nothing is left behind; what a killed
    process left is swept away by a later one. On ranks other than 0 of a world nothing is written.
    """
    if not is_writer():
        with open(os.devnull, "wb") as nowhere:
            yield nowhere
        return
    path = Path(path)
    _sweep(path.parent)
    temporary = path.with_name(f"{OURS}{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:
        raise _of(error, path) from None
    try:
        with open(descriptor, "wb") as file:
            with suppress(OSError):  # a file system without locks: then age alone decides
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
            yield file
            file.flush()
            os.fsync(descriptor)
            os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise _of(error, path) from None
        raise
    sync_folder(path.parent)


def _of(error: OSError, path: Path) -> OSError:
    """The error with the name of the file that was to be written, not that of its temporary."""
    return OSError(error.errno, os.strerror(error.errno or 0), str(path))


def _sweep(folder: Path) -> None:
    """Take away temporaries of processes that died: old, of our name, and held by nobody."""
    key = os.path.abspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    for entry in folder.glob(f"{OURS}*.tmp"):
        with suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(descriptor).st_mtime > _STALE_SECONDS:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    entry.unlink()
            finally:
                os.close(descriptor)


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


def refuse_foreign(folder: str | os.PathLike[str], ours: Callable[[Path], bool], force: bool = False) -> None:
    """DataError when `folder` holds something that `ours` does not know as a result of this program;
    `force` lets it pass. An empty folder and one that is not there are fine.
    """
    target = Path(folder)
    if force or not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"--out {os.fspath(folder)!r} is a file; allowed: a folder, or a name that is free")
    held = sorted(p.name for p in target.iterdir() if not p.name.startswith(OURS))
    if held and not ours(target):
        shown = ", ".join(held[:3]) + (", .." if len(held) > 3 else "")
        raise DataError(
            f"--out {os.fspath(folder)!r} holds what hybridattn did not make ({shown}); "
            "give another folder, or --force to write beside it"
        )


def room_for_sheet(path: str | os.PathLike[str]) -> None:
    """Make the folder of a JSON file that is to be written. DataError when something else is there: only a
    file whose "format" is one of this program's is written over, or an empty one.
    """
    target = Path(path)
    if target.is_dir():
        raise DataError(f"--out {os.fspath(path)!r} is a folder; allowed: a file")
    if target.is_file() and target.stat().st_size:
        try:
            content = read_json(target, DataError)
        except DataError:
            content = None
        if not isinstance(content, dict) or not str(content.get("format")).startswith("hybridattn-"):
            raise DataError(
                f"--out {os.fspath(path)!r} is a file that hybridattn did not make; give another name, "
                "or take it away"
            )
    target.parent.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
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
