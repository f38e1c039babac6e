"""Speed of several models side by side: rounds in turn, with spread, and whether the machine was busy."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._core import get_num_threads
from ..checks import check_int, refuse
from ..results.evaluation import Evaluation
from ..results.markup import box, table
from ..results.progress import bar
from .latency import latency, processor

if TYPE_CHECKING:
    from ..model.model import Model

BUSY = 0.1  # of the processors' time taken by others, from which figures are doubtful


@dataclass(frozen=True, eq=False, repr=False)
class Bench(Evaluation):
    """Of `bench`: timings, one dict for each length and model, with tokens a second of reading (prefill) and
    writing (decode): [median, least, most] over `rounds`; `speedup` of either over the first model, above 1
    where it is faster; the bytes of the cache. busy: the share of the processors' time that others took, None
    where that cannot be known.
    """

    timings: list[dict[str, Any]]
    rounds: int
    threads: int
    machine: str
    busy: float | None

    _always: ClassVar[frozenset[str]] = frozenset({"busy"})
    HEADER: ClassVar[tuple[str, ...]] = (
        "length",
        "model",
        "reads, tokens/s",
        "writes, tokens/s",
        "times as fast",
    )

    @property
    def warning(self) -> str | None:
        """What to think of the figures where others used the machine."""
        if self.busy is None or self.busy < BUSY:
            return None
        return (
            f"others took {100 * self.busy:.0f}% of the processors: these figures are too slow and uncertain"
        )

    def rows(self) -> list[list[str]]:
        """Of a table under HEADER."""

        def spread(figures: Sequence[float]) -> str:
            return "{:,.0f} ({:,.0f} to {:,.0f})".format(*figures)

        return [
            [
                f"{t['length']:,}", t["model"], spread(t["prefill"]), spread(t["decode"]),
                f"{t['speedup']['prefill']:.2f}, {t['speedup']['decode']:.2f}",
            ]
            for t in self.timings
        ]  # fmt: skip

    def _repr_html_(self) -> str:
        title = f"{self.rounds} rounds on {self.machine}, {self.threads} threads"
        return box(title, table(self.rows(), self.HEADER), self.warning or "")


def bench(
    models: Mapping[str, Model],
    lengths: Sequence[int] = (512, 2048),
    *,
    rounds: int = 5,
    decode_tokens: int = 16,
    cache_dtype: str = "f32",
    beyond_positions: bool = False,
    progress: bool = True,
) -> Bench:
    """Time batch-1 reading and writing of every model at every prompt length, see `latency`, in rounds in
    which all take turns. Raises ConfigError.
    """
    given: Any = models
    if not isinstance(given, Mapping) or not given:
        raise refuse("models", given, "a dict of a name and a model each, at least one")
    check_int("rounds", rounds)
    found: dict[tuple[int, str], list[tuple[float, float, int]]] = {}
    before, own, began = _busy_seconds(), _own_seconds(), time.monotonic()
    for _ in bar(range(rounds), "bench", progress):
        for length in sorted(set(lengths)):
            for name, model in models.items():
                timed = latency(
                    model, [length], decode_tokens=decode_tokens, repeats=1, cache_dtype=cache_dtype,
                    beyond_positions=beyond_positions,
                )  # fmt: skip
                one = (timed["prefill"][length], timed["decode"][length], timed["cache_bytes"][length])
                found.setdefault((length, name), []).append(one)
    after, wall = _busy_seconds(), time.monotonic() - began
    busy = None
    if before is not None and after is not None and wall > 0:
        others = after - before - (_own_seconds() - own)
        busy = round(max(0.0, others / (wall * (os.cpu_count() or 1))), 3)
    first = next(iter(models))
    timings = []
    for (length, name), times in found.items():
        reads, writes, sizes = zip(*times, strict=True)
        base_reads, base_writes, _ = zip(*found[length, first], strict=True)
        timings.append({
            "length": length,
            "model": name,
            "prefill": _spread([length / seconds for seconds in reads]),
            "decode": _spread([1.0 / seconds for seconds in writes]),
            # of the same round each: what slowed one slowed the other
            "speedup": {
                "prefill": statistics.median(b / a for a, b in zip(reads, base_reads, strict=True)),
                "decode": statistics.median(b / a for a, b in zip(writes, base_writes, strict=True)),
            },
            "cache_bytes": sizes[0],
        })  # fmt: skip
    return Bench(timings, rounds, get_num_threads(), processor(), busy)


def _spread(values: Sequence[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)]


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system


def _busy_seconds() -> float | None:
    """Seconds that all processors together have worked, by /proc/stat; None where there is none."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(text) for text in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
