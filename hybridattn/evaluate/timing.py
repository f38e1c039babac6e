"""Speed of several models side by side: rounds in turn, with spread, and whether the machine was busy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from .._core import get_num_threads
from ..checks import refuse
from ..results.evaluation import Evaluation
from ..results.markup import box, table
from . import busy
from .latency import processor
from .rounds import distinguishable, take_turns

if TYPE_CHECKING:
    from ..model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class Bench(Evaluation):
    """Of `bench`: timings, one dict for each length and model, with tokens a second of reading (prefill) and
    writing (decode); `speedup`: either times that of the first model, above 1 is faster; each is [median,
    least, most] over `rounds`. `distinguishable`: whether a speedup is told from 1, which takes 3 rounds that
    agree; the bytes of the cache. busy: the share of the processors' time that others took, None where that
    cannot be known.
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
        "times the first's speed",
    )

    @property
    def warning(self) -> str | None:
        """What to think of the figures where others used the machine."""
        return busy.warning(self.busy)

    def rows(self) -> list[list[str]]:
        """Of a table under HEADER."""

        def spread(figures: Sequence[float], form: str = "{:,.0f} ({:,.0f} to {:,.0f})") -> str:
            return form.format(*figures)

        def speed(timed: dict[str, Any]) -> str:
            if timed["model"] == self.timings[0]["model"]:
                return "1"
            return ", ".join(
                f"{verb} {spread(timed['speedup'][what], '{:.2f} ({:.2f} to {:.2f})')}"
                if timed["distinguishable"][what]
                else f"{verb}: not distinguishable"
                for verb, what in (("reads", "prefill"), ("writes", "decode"))
            )

        return [
            [f"{t['length']:,}", t["model"], spread(t["prefill"]), spread(t["decode"]), speed(t)]
            for t in self.timings
        ]

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
    wanted = sorted(set(lengths))
    found = take_turns(
        {name: partial(_itself, model) for name, model in models.items()}, wanted, rounds,
        decode_tokens=decode_tokens, cache_dtype=cache_dtype, beyond_positions=beyond_positions,
        progress=progress,
    )  # fmt: skip
    first = next(iter(models))
    timings = []
    for length in wanted:
        for name in models:
            per_second = {}
            for what, tokens in (("prefill", length), ("decode", 1)):
                middle, least, most = found.spread(name, what, length)
                per_second[what] = [tokens / middle, tokens / most, tokens / least]
            speed = {what: found.speed(name, what, length, first) for what in per_second}
            timings.append({
                "length": length,
                "model": name,
                **per_second,
                "speedup": speed,
                "distinguishable": {what: distinguishable(ratio, rounds) for what, ratio in speed.items()},
                "cache_bytes": found.cache_bytes[name, length],
            })  # fmt: skip
    return Bench(timings, rounds, get_num_threads(), processor(), found.others)


def _itself(model: Model) -> Model:
    return model
