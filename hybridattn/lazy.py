"""What a public module shows: its names, imported when they are first used where that keeps `--help` and
`import` quick, and nothing else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def face(
    package: str, home: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """The module-level `__getattr__` (PEP 562) of `package`: `home` says in which module below it each public
    name lives. A name is looked up once, and is an ordinary attribute from then on.

    renamed: old name -> the name that it has now; it still serves, with a DeprecationWarning.
    """

    def look_up(name: str) -> Any:
        if renamed and name in renamed:
            warnings.warn(
                f"{package}.{name} is now {package}.{renamed[name]}", DeprecationWarning, stacklevel=2
            )
            return getattr(sys.modules[package], renamed[name])
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return look_up


def contents(module: str) -> Callable[[], list[str]]:
    """The module-level `__dir__` (PEP 562) of `module`: what its `__all__` lists, so that completion shows no
    name that the module itself only uses.
    """
    return lambda: sorted(sys.modules[module].__all__)
