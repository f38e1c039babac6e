"""A tensor of numbers that count up, for tests of Tensor."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from hybridattn._core import Tensor

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def counted(dtype: str = "float32") -> Tensor:
    """0 to 5 as [2,3]."""
    return Tensor.from_numpy(np.arange(6).reshape(2, 3).astype(DTYPES[dtype]))
