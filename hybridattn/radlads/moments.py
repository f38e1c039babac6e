"""AdamW's moments as arrays that files and messages can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from .._core import Distiller, Tensor

MomentsType = Literal["float32", "bfloat16"]
MOMENTS = get_args(MomentsType)  # how they may be kept

Kind = Literal["weights", "m", "v"]


def moments(distiller: Distiller) -> dict[str, np.ndarray]:
    """{"m.NAME": view, "v.NAME": view} of AdamW's moments."""
    tables = distiller.moments()
    return {f"{kind}.{name}": _bits(view) for kind in ("m", "v") for name, view in tables[kind].items()}


def arena(distiller: Distiller, kind: Kind) -> np.ndarray:
    """Weights or moments, one after the other as they are in memory."""
    return _bits(distiller.arena(kind))


def _bits(tensor: Tensor) -> np.ndarray:
    """A tensor's memory: float32, or of bfloat16 its bits as uint16, a type that MPI and old releases of
    safetensors know.
    """
    array = tensor.numpy()
    return array if array.dtype == np.float32 else array.view(np.uint16)
