"""Checks of single values. Every message names the field, the value found and what is allowed."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable

from .errors import ConfigError


def refuse(name: str, value: object, allowed: str) -> ConfigError:
    """The error for a field with a value that is not allowed."""
    return ConfigError(f"{name} is {value!r}; allowed: {allowed}")


def check_int(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """`value` as an int in [low, high], or ConfigError."""
    allowed = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        raise refuse(name, value, allowed)
    return value


def check_number(name: str, value: object, low: float = 0.0, *, above: bool = False) -> float:
    """`value` as a finite float of at least `low` (greater than `low` when `above`), or ConfigError."""
    number = as_float(value)
    if not math.isfinite(number) or number < low or (above and number == low):
        raise refuse(name, value, f"a number {'greater than' if above else 'of at least'} {low:g}")
    return number


def as_float(value: object) -> float:
    """A number as a float; NaN for what is none, and for whole numbers beyond a float's range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_bool(name: str, value: object) -> bool:
    """`value` as a bool, or ConfigError."""
    if not isinstance(value, bool):
        raise refuse(name, value, "true or false")
    return value


def check_choice(name: str, value: object, allowed: Collection[str]) -> str:
    """`value` as one of the names, or ConfigError."""
    if not isinstance(value, str) or value not in allowed:
        raise refuse(name, value, ", ".join(allowed))
    return value


_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def bytes_of(budget: str | int, name: str = "memory") -> int:
    """ "2GiB", "1500 MB" or a number of bytes. ConfigError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", budget.strip()) if isinstance(budget, str) else None
    if found and found[2] in _UNITS:
        value = int(float(found[1]) * _UNITS[found[2]])
    elif isinstance(budget, str) and budget.strip().isdecimal():
        value = int(budget)
    elif isinstance(budget, int) and not isinstance(budget, bool):
        value = budget
    else:
        raise refuse(
            name, budget, f'None, a number of bytes, or one with a unit of {", ".join(_UNITS)}: "2GiB"'
        )
    if value <= 0:
        raise refuse(name, budget, "more than 0 bytes")
    return value


LARGEST = 2**31 - 1  # of whole numbers: what C's int holds


def nearest(name: str, allowed: Iterable[str]) -> str:
    """'; did you mean "x"?' for the closest allowed name, else the list of them all."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else "; allowed: " + ", ".join(allowed)
