"""A model's parameters one at a time as float32, whatever they are stored in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .. import _core

if TYPE_CHECKING:
    from ..model.model import Model

Array = npt.NDArray[np.float32]


class Weights:
    """Parameters by internal name. Those that are stored in another type are decoded when they are asked for,
    so that no second copy of a whole model is made; the others are views, not to be written to.
    """

    def __init__(self, model: Model) -> None:
        self._plain = model.arrays(stored=False)
        self._stored = model.stored()

    def __contains__(self, name: str) -> bool:
        return name in self._plain or name in self._stored

    def __getitem__(self, name: str) -> Array:
        if name in self._stored:
            dtype, data = self._stored[name]
            return _core.unpack(data, dtype)
        return self._plain[name]

    def get(self, name: str) -> Array | None:
        """The parameter, or None where the model has none of that name."""
        return self[name] if name in self else None  # noqa: SIM401, this get
