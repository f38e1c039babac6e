"""What rounding a matrix has to know of its inputs, from a text (GPTQ, arXiv 2210.17323)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..data.tokens import slices
from ..errors import WeightError
from ..results.progress import bar

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from .base import BaseModel

Matrix = npt.NDArray[np.float32]

SLICE_TOKENS = 2048  # between two moves of the bar, what the core takes as one batch
_AT_ONCE = 1 << 29  # bytes of moments in one pass over the text
_DAMPING = 0.01  # of the mean diagonal, as in the paper


class Factors:
    """The `factor` of `_core.pack` for the matrices of a model's layers.

    U [in, in], upper triangular, of (H + d I)^-1 = U^T U, where H = X^T X of the rows X that a matrix is
    multiplied with on the text, and d a hundredth of its mean diagonal. `names` are asked for in their order:
    the text is read anew whenever their moments no longer fit half a GiB.
    """

    def __init__(self, model: BaseModel, data: TokenData, names: list[str]) -> None:
        self._model, self._data, self._left = model, data, names
        self._moments: dict[str, Matrix] = {}
        self._last: tuple[Matrix, Matrix | None] | None = None

    def of(self, name: str) -> Matrix | None:
        """None for a matrix that is not multiplied with."""
        if name not in self._moments:
            self._read()
        moments = self._moments.pop(name)
        if not np.isfinite(moments).all():
            raise WeightError(f"what {name} is multiplied with on the text is not finite: check the weights")
        if self._last is None or self._last[0] is not moments:  # joined matrices share theirs
            self._last = moments, factor(moments)
        return self._last[1]

    def _read(self) -> None:
        columns = {name: shape[1] for name, shape, _ in self._model.parameter_info() if len(shape) == 2}
        count, size = 0, 0
        while count < len(self._left) and (not count or size < _AT_ONCE):
            size += 4 * columns[self._left[count]] ** 2
            count += 1
        names, self._left = self._left[:count], self._left[count:]
        data, found = self._data, None
        for part in bar(slices(data.windows, SLICE_TOKENS), "calibration"):
            found = self._model.moments(data.tokens, part, names, data.segments, found)
        self._moments = found or {}


def factor(moments: Matrix) -> Matrix | None:
    """U of one matrix from H [in, in]; None when H is zero."""
    diagonal = np.diag(moments).astype(np.float64)
    if not diagonal.any():
        return None
    damped = moments.astype(np.float64)
    damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, 0.0, 1.0) + _DAMPING * diagonal.mean()
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
