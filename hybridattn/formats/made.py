"""Tensors made from those of another source: the way back from a layout that stores a model otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..checks import refuse
from ..errors import WeightError
from .dtypes import Bytes
from .source import WeightSource

Array = npt.NDArray[np.float32]
# Keys of a config.json that a body keeps whatever its layers are.
BODY = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


class MadeSource(WeightSource):
    """Tensors by name, each with its shape and what makes it. hf: the config of the body that they are of;
    layers: its mixers.
    """

    hf: dict[str, Any]
    layers: list[list[dict[str, Any]]]

    def __init__(self, inner: WeightSource, config: Mapping[str, Any]) -> None:
        self.path, self._inner, self._config = inner.path, inner, config
        self._make: dict[str, tuple[tuple[int, ...], Callable[[], Array]]] = {}
        self._theirs = set(inner.names())

    def __enter__(self) -> Self:
        return self

    def names(self) -> list[str]:
        return list(self._make)

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self._make:
            raise WeightError(f"{self.path}: has no weight {name!r}")
        return self._make[name][0]

    def file(self, name: str) -> Path:
        return self.path

    def read_into(self, name: str, out: np.ndarray) -> None:
        self.check_out(name, out)
        out[...] = self._make[name][1]()

    def stored(self, name: str) -> tuple[str, Bytes] | None:
        return None  # every tensor is made from those of the file

    def drop(self, name: str) -> None:
        return

    def close(self) -> None:
        self._inner.close()

    def _number(self, key: str) -> int:
        value = self._config.get(key)
        if type(value) is not int or value < 1:
            raise refuse(key, value, "an integer of at least 1")
        return value

    def _read(self, name: str, *shape: int) -> Array:
        """A tensor of the file, which must have this shape there. WeightError."""
        found = self._inner.shape(name)
        if found != shape:
            raise WeightError(f"{self.path}: weight {name!r} has shape {list(found)}; allowed: {list(shape)}")
        out = np.empty(shape, np.float32)
        self._inner.read_into(name, out)
        return out

    def _same(self, name: str, shape: tuple[int, ...], theirs: str = "") -> None:
        self._make[name] = shape, lambda: self._read(theirs or name, *shape)

    def _part(
        self, name: str, shape: tuple[int, ...], theirs: str, whole: tuple[int, ...], rows: slice
    ) -> None:
        """Rows of a tensor that is `whole` in the file."""
        self._make[name] = shape, lambda: self._read(theirs, *whole)[rows].reshape(shape)
