"""The base of evaluations: a small object whose fields have the same names in Python, in --json and in
reports, and which can also be read as a mapping, as the dicts of earlier versions were.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from .equality import Comparable
from .markup import box, figure, table


class Evaluation(Comparable, Mapping[str, Any]):
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

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row where nothing else is said; ImportError without pandas."""
        import pandas

        rows = self._frame_rows()
        frame = pandas.DataFrame(rows)
        return frame.set_index(next(iter(rows[0]))) if len(rows) > 1 else frame

    def _frame_rows(self) -> list[dict[str, Any]]:
        """What a frame holds; of several rows the first column is their name."""
        return [{name: v for name, v in self.items() if not isinstance(v, (list, tuple, dict, np.ndarray))}]

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

    def __eq__(self, other: object) -> bool:
        """Another evaluation of the same kind and numbers, or a dict of them."""
        if isinstance(other, Mapping) and not isinstance(other, Evaluation):
            return self.to_dict() == dict(other)
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """A dict with more in it, as of the dicts of earlier versions."""
        return self.to_dict() | dict(other)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in self.items())
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        rows = [[name.replace("_", " "), _short(value)] for name, value in self.items()]
        return box(type(self).__name__, table(rows))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return figure(value, 5)
    if isinstance(value, np.ndarray):
        return f"<array of shape {value.shape}>"
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, float) for v in value):
        return f"[{', '.join(map(_short, value))}]"  # an interval
    if isinstance(value, (list, tuple, dict)):
        return f"<{len(value)} values>"
    return str(value) if not isinstance(value, str) else repr(value)
