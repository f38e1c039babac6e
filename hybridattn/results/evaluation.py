"""The base of evaluations: a small object whose fields have the same names in Python, in --json and in
reports, and which can also be read by key, as the dicts of earlier versions were.
"""

from __future__ import annotations

import warnings
from collections.abc import ItemsView, Iterator, KeysView
from dataclasses import fields
from typing import Any, ClassVar

from .equality import Comparable
from .markup import box, figure, table


class Evaluation(Comparable):
    """Fields of None that say nothing was measured are left out of keys and dicts.

    `_old` maps keys of earlier versions to today's fields: they go on working, with a DeprecationWarning.
    `_always`: fields that are there also when they are None.
    """

    _old: ClassVar[dict[str, str]] = {}
    _always: ClassVar[frozenset[str]] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Name -> value, as --json and reports have it."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        return {name: v for name, v in found.items() if v is not None or name in self._always}

    def keys(self) -> KeysView[str]:
        """The names of what was measured."""
        return self.to_dict().keys()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of name and value."""
        return self.to_dict().items()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())

    def __contains__(self, name: object) -> bool:
        return (self._old.get(name, name) if isinstance(name, str) else name) in self.to_dict()

    def __getitem__(self, name: str) -> Any:
        if name in self._old:
            today = self._old[name]
            message = f"{name!r} of {type(self).__name__} is called {today!r} now"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            name = today
        return self.to_dict()[name]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in self.items())
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        rows = [[name.replace("_", " "), _short(value)] for name, value in self.items()]
        return box(type(self).__name__, table(rows))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return figure(value, 5)
    if isinstance(value, (list, tuple, dict)):
        return f"<{len(value)} values>"
    return str(value) if not isinstance(value, str) else repr(value)
