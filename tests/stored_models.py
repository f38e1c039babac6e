"""Tiny teachers, prompts and the twin of a stored model, for tests of stored weights."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from hybridattn.formats import dtypes
from hybridattn.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")

TYPES = [name for name in dtypes.NAMES if name != "float32"]
by_type = pytest.mark.parametrize("dtype", TYPES)
LENGTHS = (1, 3, 11, 40)  # one row, few rows, a small batch, tiles


def teacher(**changes) -> Model:
    """Rows of every matrix are whole blocks."""
    return tiny.teacher(intermediate_size=64, num_attention_heads=4, **changes)


def dequantised(model: Model) -> Model:
    return model.astype("float32")


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def prompt(n: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(n).integers(0, tiny.EOS, (rows, n)).astype(np.int32)
