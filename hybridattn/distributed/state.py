"""The ranks that this process works with at the moment, if any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from ..files import is_writer as is_writer
from ..files import worlds

if TYPE_CHECKING:
    from .group import World

REDUCE = ("tree", "fast")  # how gradients of ranks are added up, see `group.World`
OVERLAP = ("auto", "always", "never")  # and when


def current() -> World | None:
    """The world that calls made here share their work in; None: they are this process's own."""
    return cast("World | None", worlds[-1]) if worlds else None


@contextmanager
def alone() -> Iterator[None]:
    """Calls inside are this rank's own: they do all the work, and write files on every rank."""
    with entered(None):
        yield


@contextmanager
def entered(world: World | None) -> Iterator[None]:
    """The block in which `current` gives `world`."""
    worlds.append(world)
    try:
        yield
    finally:
        worlds.pop()
