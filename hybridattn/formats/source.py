"""Named tensors somewhere on disk: what the readers of weight files have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from ..errors import WeightError
from .dtypes import Bytes


class WeightSource(ABC):
    """Named tensors somewhere on disk, under Hugging Face names, readable as float32."""

    path: Path

    @abstractmethod
    def names(self) -> list[str]:
        """All tensor names, in file order."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """The file that holds a tensor, for messages."""

    @abstractmethod
    def read_into(self, name: str, out: np.ndarray) -> None:
        """Copy a tensor into `out` (float32, the same shape), converting. WeightError when it cannot."""

    @abstractmethod
    def stored(self, name: str) -> tuple[str, Bytes] | None:
        """A matrix as it lies in the file: (dtype, uint8 [rows, bytes]), which may be mapped.

        None when only `read_into` will do: a vector, float32, or a type that no product reads.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Say that the tensor's pages are not needed soon."""

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    def __enter__(self) -> WeightSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def check_out(self, name: str, out: np.ndarray) -> None:
        """WeightError unless `out` can take the tensor `name`."""
        if out.dtype != np.float32:
            raise WeightError(f"destination of {name!r} has dtype {out.dtype}; allowed: float32")
        if tuple(out.shape) != self.shape(name):
            raise WeightError(
                f"{self.file(name)}: weight {name!r} has shape {list(self.shape(name))}; "
                f"the model needs {list(out.shape)}"
            )
