"""What products with a model's matrices are computed in: float32, or bfloat16 with sums in float32."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Literal, cast

from ._core import show_config
from .checks import check_choice

Compute = Literal["float32", "bfloat16"]
COMPUTES = ("float32", "bfloat16", "auto")
PORTABLE_FACTOR = 1.05  # of float32's time, benchmarks/bfloat16.py with HYBRIDATTN_ISA=avx512


def native() -> bool:
    """Whether this processor has instructions for bfloat16 that the core uses."""
    return bool(show_config()["bfloat16"] != "portable")


def chosen(name: str) -> Compute:
    """The name of an arithmetic; "auto" is bfloat16 where the processor has instructions for it.

    ConfigError for another name. Where bfloat16 is asked for without them, one warning says what it costs.
    """
    check_choice("compute", name, COMPUTES)
    if name == "auto":
        name = "bfloat16" if native() else "float32"
    if name == "bfloat16" and not native():
        _warn()
    return cast(Compute, name)


@cache
def _warn() -> None:
    warnings.warn(
        "compute is 'bfloat16', but this processor has no instructions for it that are known here (AVX-512 "
        f"BF16): the results are the same, products take about {PORTABLE_FACTOR:g} times as long as in "
        "float32",
        RuntimeWarning,
        stacklevel=4,
    )
