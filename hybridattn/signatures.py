"""Signatures that name every option, so that completion and `help()` show them and a typo is told.

A function of the public interface that hands its options on to a dataclass takes them as `**options`, typed
with the TypedDict of that dataclass for type checkers. `options_of` puts the dataclass's fields with their
defaults in the place of `**options`, where `inspect.signature` looks.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, ParamSpec, TypeVar

from .checks import nearest

P = ParamSpec("P")
R = TypeVar("R")


def named(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose TypeError for a keyword that it does not have names the nearest one that it has."""
    signature = inspect.signature(function)
    allowed = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in allowed:
                hint = nearest(name, [each for each in allowed if each != "self"])
                raise TypeError(f"{function.__qualname__}() has no argument {name!r}{hint}")
        return function(*args, **kwargs)

    return call


def options_of(settings: type, **defaults: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions that end in `**options`: their signature names the fields of the dataclass
    `settings` instead, with its defaults or with those given here.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        added = []
        for field in fields(settings):
            default = defaults.get(field.name, field.default)
            assert default is not MISSING, f"{settings.__name__}.{field.name} has no default"
            added.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
                )
            )
        function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return named(function)

    return decorate


def renamed(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions of which an argument has a new name: renamed(old="new"). The old one still
    serves as a keyword, with a DeprecationWarning.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in new_names.items():
                if old in kwargs:
                    warnings.warn(
                        f"{function.__qualname__}: {old} is now {new}", DeprecationWarning, stacklevel=2
                    )
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
