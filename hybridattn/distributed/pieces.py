"""Independent pieces of work shared out over ranks, and the check that all ranks have the same job."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DataError, HybridAttnError
from .guardian import STOPPED
from .state import alone, current

if TYPE_CHECKING:
    from .group import World


class Stopped(KeyboardInterrupt):
    """A request to stop, of whatever rank, that all ranks know of."""


Item = TypeVar("Item")
Found = TypeVar("Found")


def spread(
    items: Sequence[Item],
    work: Callable[[Item], Found],
    bar: Callable[[Sequence[Item]], Iterable[Item]] = iter,
    what: str = "pieces",
) -> list[Found]:
    """[work(item) for item in items], of which each rank of the current world does every so-manieth, and all
    of them get all. A piece is the same work wherever it is done, so the results have the same bits for any
    number of ranks. bar: wraps the items that this rank does. what: the name of the pieces, for the note
    about ranks that have none.
    """
    world = current()
    if world is None or world.size == 1:
        return [work(item) for item in bar(items)]
    world.note_idle(len(items), what)
    parts = together(world, lambda: [work(item) for item in bar(items[world.rank :: world.size])])
    return [parts[i % world.size][i // world.size] for i in range(len(items))]


def together(
    world: World, work: Callable[[], Found], then: Callable[[bool], None] | None = None
) -> list[Found]:
    """What `work` gave on each rank. An error on any rank, or a request to stop, is raised on all of them.
    then(worked): what every rank does after its work, whether that worked or not, before they agree.
    """
    failed: BaseException | None = None
    found = None
    try:
        found = work()
    except (Exception, KeyboardInterrupt) as error:
        failed = error
    if then is not None:
        then(failed is None)
    heard = world.allgather((found, None if failed is None else describe(failed)))
    wrong = [(rank, text) for rank, (_, text) in enumerate(heard) if text is not None]
    if not wrong:
        return [value for value, _ in heard]
    rank, text = wrong[0]
    if any(text == STOPPED for _, text in wrong):
        raise Stopped
    if failed is not None:
        raise failed
    raise HybridAttnError(f"rank {rank}: {text}")


def agree(name: str, facts: Mapping[str, Any]) -> None:
    """DataError, on all ranks, when they do not have the same facts, such as digests of weights and text. It
    names the first fact that differs, and the ranks.
    """
    world = current()
    if world is None or world.size == 1:
        return
    everyone = world.allgather(dict(facts))
    for key in everyone[0]:
        other = [rank for rank, given in enumerate(everyone) if given.get(key) != everyone[0][key]]
        if other:
            ranks = f"rank {other[0]}" if len(other) == 1 else f"ranks {', '.join(map(str, other))}"
            raise DataError(
                f"{name}: {key} of {ranks} is {_short(everyone[other[0]].get(key))}; allowed: "
                f"{_short(everyone[0][key])}, as on rank 0"
            )


def by_first(work: Callable[[], Found]) -> Found:
    """What `work` gives on rank 0, which does it alone, on all ranks of the current world; an error too."""
    world = current()
    if world is None:
        return work()

    def first() -> Found | None:
        if world.rank:
            return None
        with alone():
            return work()

    found: Any = together(world, first)[0]
    return found


def describe(error: BaseException) -> str:
    """An error in one line; STOPPED for KeyboardInterrupt; the whole story of a fault of the program."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, MemoryError, SystemExit)):
        return text
    return "".join(traceback.format_exception(error))  # a fault of the program


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
