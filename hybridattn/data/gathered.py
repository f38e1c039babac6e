"""Numbers that come piece by piece and end as one array: in memory, or in a file where they are many."""

from __future__ import annotations

import tempfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..files import OURS
from .hub import cache_folder

IN_MEMORY = 1 << 26  # bytes: more than these are written to a file without a name, and mapped


class Gathered:
    """A stream of numbers of one type. The file lies in the cache folder, and is gone when nobody maps it."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._pieces: list[npt.NDArray[Any]] = []
        self._held = 0  # of the pieces, which follow what is in the file
        self._file: BinaryIO | None = None
        self._written = 0

    def __len__(self) -> int:
        return self._written + self._held

    def add(self, values: npt.ArrayLike) -> None:
        """Append them."""
        piece = np.ascontiguousarray(values, self._dtype)
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held * self._dtype.itemsize > IN_MEMORY:
            self._write()

    def array(self, stop: int | None = None) -> npt.NDArray[Any]:
        """All of them, or the first `stop`; the file is mapped to be read only."""
        if self._file is None:
            whole = np.concatenate(self._pieces) if self._pieces else np.zeros(0, self._dtype)
            return whole[:stop]
        self._write()
        mapped = np.memmap(self._file, self._dtype, "r", shape=(self._written,))
        return mapped.view(np.ndarray)[:stop]

    def _write(self) -> None:
        if self._file is None:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, prefix=OURS)  # noqa: SIM115 - mapped later
        for piece in self._pieces:
            self._file.write(piece.view(np.uint8).data)
        self._file.flush()
        self._written += self._held
        self._pieces, self._held = [], 0
