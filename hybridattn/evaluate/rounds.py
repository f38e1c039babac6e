"""Timings of several models in rounds in which all take turns: what slows the machine slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checks import check_int
from ..results.progress import bar
from .busy import Watch
from .latency import latency

if TYPE_CHECKING:
    from ..model.model import Model

LEAST_ROUNDS = 3  # the range of fewer says nothing
Spread = list[float]  # [median, least, most]


@dataclass(frozen=True)
class Rounds:
    """What `take_turns` found.

    seconds {(model, what, length): one for each round}: "prefill" of the whole prompt, "decode" of a token.
    cache_bytes {(model, length)}; others: see `busy.Watch`.
    """

    seconds: dict[tuple[str, str, int], list[float]]
    cache_bytes: dict[tuple[str, int], int]
    bytes_per_token: dict[str, int]
    others: float | None

    def spread(self, model: str, what: str, length: int) -> Spread:
        """Seconds."""
        return spread(self.seconds[model, what, length])

    def speed(self, model: str, what: str, length: int, base: str) -> Spread:
        """Times the speed of `base`, above 1 is faster: the quotients within each round."""
        own, other = self.seconds[model, what, length], self.seconds[base, what, length]
        return spread([b / a for a, b in zip(own, other, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """[median, least, most]"""
    return [statistics.median(values), min(values), max(values)]


def distinguishable(speed: Spread, rounds: int) -> bool:
    """Whether a ratio is told from 1: there were enough rounds, and all of them fell on one side of it. Of
    pairs that are equally fast, one in 2**(rounds - 1) is told apart by chance.
    """
    _, least, most = speed
    return rounds >= LEAST_ROUNDS and not least <= 1.0 <= most


def take_turns(
    models: Mapping[str, Callable[[], Model]],
    lengths: Sequence[int],
    rounds: int,
    *,
    decode_tokens: int = 16,
    cache_dtype: str = "f32",
    beyond_positions: bool = False,
    progress: bool = True,
) -> Rounds:
    """Time batch-1 prefill and decoding of every model at every length, see `latency`, once in each round.
    Every other round goes backwards, so that a machine that slows down favours none. `models` maps a name to
    what gives the model, called anew in each round: not all of them have to fit into memory.
    """
    check_int("rounds", rounds)
    seconds: dict[tuple[str, str, int], list[float]] = {}
    cache_bytes: dict[tuple[str, int], int] = {}
    bytes_per_token: dict[str, int] = {}
    watch, names = Watch(), list(models)
    turns = [name for number in range(rounds) for name in (names, names[::-1])[number % 2]]
    for name in bar(turns, "timing", progress):
        model = models[name]()
        latency(model, [min(16, *lengths)], decode_tokens=1, repeats=1)  # touches memory that was just made
        timed = latency(
            model, lengths, decode_tokens=decode_tokens, repeats=1, cache_dtype=cache_dtype,
            beyond_positions=beyond_positions,
        )  # fmt: skip
        del model
        bytes_per_token[name] = timed["bytes_per_token"]
        for length in lengths:
            cache_bytes[name, length] = timed["cache_bytes"][length]
            for what in ("prefill", "decode"):
                seconds.setdefault((name, what, length), []).append(timed[what][length])
    return Rounds(seconds, cache_bytes, bytes_per_token, watch.others())
