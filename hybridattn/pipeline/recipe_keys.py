"""One key of a recipe: its default, what it is for, and what it may be, said once, in its dataclass field."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

from ..checks import LARGEST, as_float, nearest
from ..errors import ConfigError

Check = Callable[[str, Any], None]  # (name of the key, value); raises ConfigError


def key(default: Any, help: str = "", check: Check | None = None, path: bool = False) -> Any:
    """The dataclass field of a key. path: the value may name a file beside the recipe."""
    return dataclasses.field(default=default, metadata={"help": help, "check": check, "path": path})


def keys(part: Any) -> dict[str, dataclasses.Field[Any]]:
    """The keys of a table, of its class or of an object of it."""
    return {field.name: field for field in dataclasses.fields(part)}


def check_keys(part: Any, prefix: str = "") -> None:
    """Hold every value of a table against the check of its key."""
    for name, field in keys(part).items():
        check = field.metadata.get("check")
        if check is not None:
            check(prefix + name, getattr(part, name))


def paths(part: Any) -> Iterator[str]:
    """The keys whose values may be paths."""
    return (name for name, field in keys(part).items() if field.metadata.get("path"))


# --- what a value may be ---


def positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"recipe: {name} is {value}; it must be greater than 0")


def not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"recipe: {name} is {value}; it must be 0 or more")


def share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"recipe: {name} is {value}; it must be between 0 and 1")


def lengths(name: str, value: tuple[int, ...]) -> None:
    if not value or min(value) < 2:
        raise ConfigError(f"recipe: {name} is {list(value)}; it needs one length or more, each at least 2")


def filled(wanted: str) -> Check:
    """Not empty; wanted: what is."""

    def check(name: str, value: Collection[Any]) -> None:
        if not value:
            raise ConfigError(f"recipe: {name} is empty; {wanted}")

    return check


def one_of(allowed: Collection[str], prefix: str = "") -> Check:
    """One of these names, or a tuple of them."""

    def check(name: str, value: str | tuple[str, ...]) -> None:
        for each in (value,) if isinstance(value, str) else value:
            if each not in allowed:
                raise ConfigError(f'recipe: {name} is "{each}"; allowed: {prefix}{", ".join(allowed)}')

    return check


# --- from a parsed file ---


def read_keys(name: str, part: type, table: dict[str, Any]) -> Any:
    """The table `name` as its dataclass. ConfigError for unknown keys and wrong types."""
    known = keys(part)
    refuse_unknown(f"recipe [{name}]", table, known)
    return part(
        **{each: typed(f"{name}.{each}", value, known[each].default) for each, value in table.items()}
    )


def refuse_unknown(where: str, table: dict[str, Any], allowed: Collection[str]) -> None:
    for name in table:
        if name not in allowed:
            raise ConfigError(f'{where}: unknown key "{name}"{nearest(name, allowed)}')


def typed(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`; an int will do for a float, a list or a single value for a tuple."""
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(typed(name, item, default[0] if default else "") for item in items)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        if not math.isfinite(as_float(value)):
            raise ConfigError(f"recipe: {name} is a whole number beyond the range of numbers")
        return as_float(value)
    if type(value) is not type(default):
        wanted = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
        raise ConfigError(f"recipe: {name} is {value!r}; it must be {wanted[type(default)]}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"recipe: {name} is {value}; it must be at most {LARGEST}")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"recipe: {name} is {value!r}; it must be UTF-8 text") from None
    return value
