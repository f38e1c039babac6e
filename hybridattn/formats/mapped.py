"""Files mapped for reading without a copy."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


class MappedFile:
    """A file mapped for reading: `view` gives arrays without a copy, `drop` gives pages back to the system.

    The mapping is private, copied where it is written: PyTorch takes read-only arrays and writes to them all
    the same, which would end the process on pages that are read-only. The file never changes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with open(self.path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_COPY) if self.size else None

    def view(self, dtype: Any, offset: int, count: int) -> np.ndarray:
        """`count` numbers of `dtype` from byte `offset`, read-only; the caller has checked the bounds."""
        if count == 0:
            return np.empty(0, dtype)
        if self._map is None:
            raise ValueError(f"{self.path}: read after it was closed")
        array = np.frombuffer(self._map, dtype, count, offset)
        array.flags.writeable = False
        return array

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
