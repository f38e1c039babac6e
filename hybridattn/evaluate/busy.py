"""Whether other programs used the processors while something was timed."""

from __future__ import annotations

import os
import time

BUSY = 0.1  # of the processors' time taken by others, from which figures are doubtful
_LEAST = 0.5  # processor seconds: the counters move in hundredths of a second, too coarse for less


class Watch:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._began = (_busy_seconds(), _own_seconds(), time.monotonic())

    def others(self) -> float | None:
        """The share, 0 to 1, of all processors' time that others have taken since; None where that cannot be
        known: without /proc/stat, or after too short a time.
        """
        busy, own, now = self._began
        after, room = _busy_seconds(), (time.monotonic() - now) * (os.cpu_count() or 1)
        if busy is None or after is None or room < _LEAST:
            return None
        return round(min(1.0, max(0.0, (after - busy - (_own_seconds() - own)) / room)), 3)


def warning(others: float | None) -> str | None:
    """What to think of figures that were taken while others took such a share."""
    if others is None or others < BUSY:
        return None
    return f"others took {100 * others:.0f}% of the processors meanwhile: these figures are uncertain"


def _own_seconds() -> float:
    """Of this process with all its threads, and of children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _busy_seconds() -> float | None:
    """Seconds that all processors together have worked, by /proc/stat, also for other virtual machines; None
    where there is none.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(text) for text in file.readline().split()[1:9]]
        user, nice, system, _idle, _wait, irq, softirq, steal = fields
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
