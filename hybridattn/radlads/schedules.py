"""Learning-rate schedules: float32 arrays of one rate per step, so that a run's schedule can be saved,
plotted and compared.

A step of training uses two rates, one for the linear mixers and one for everything else; `combine` pairs two
schedules into the float32 [steps, 2] array that `_core.Distiller.run` takes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .._core import mixers
from ..errors import ConfigError
from ..lazy import contents

__all__ = [
    "DEFAULT_ALIGN_LR",
    "SCHEDULES",
    "Schedule",
    "align_lr",
    "combine",
    "constant",
    "cosine",
    "make",
    "stable_cosine_stable",
    "warmup",
    "warmup_linear",
]
__dir__ = contents(__name__)


DEFAULT_ALIGN_LR = 1e-3  # RADLADS' own, for 100M tokens


def align_lr(kind: str) -> float:
    """The learning rate that step 1 starts from unless told, as the kind of mixer says (`mixers()`).

    The kinds of the core were measured for the 10^4 to 10^5 tokens that a CPU reads: more than RADLADS' rate
    where only feature maps and gates train and for recurrences, less for softmax in a window (docs/log.md).
    """
    rate = mixers().get(kind, {}).get("align_lr")
    return DEFAULT_ALIGN_LR if rate is None else float(rate)


Schedule = npt.NDArray[np.float32]


def constant(steps: int, lr: float, lr_final: float | None = None) -> Schedule:
    """float32 [steps], every entry `lr`. `lr_final` is accepted so that all schedules are called alike; it
    is not used.
    """
    _check(steps, lr, lr)
    return np.full(steps, lr, np.float32)


def cosine(steps: int, lr: float, lr_final: float = 0.0) -> Schedule:
    """float32 [steps]: half a cosine from `lr` at the first step to `lr_final` at the last one."""
    _check(steps, lr, lr_final)
    return _half_cosine(np.linspace(0.0, 1.0, steps) if steps > 1 else np.zeros(steps), lr, lr_final)


def warmup_linear(steps: int, lr: float, warmup_steps: int = 0) -> Schedule:
    """float32 [steps]: up to `lr` along `warmup`'s ramp, then down a straight line that would reach 0 after
    the last step; what BERT is fine-tuned with (arXiv 1810.04805, A.2).
    """
    left = (steps - np.arange(steps)) / max(steps - warmup_steps, 1)
    return warmup((constant(steps, lr) * np.minimum(left, 1.0)).astype(np.float32), warmup_steps)


def stable_cosine_stable(
    steps: int, lr: float, lr_final: float = 1e-5, start: float = 0.83, stop: float = 0.875
) -> Schedule:
    """float32 [steps]: `lr`, then half a cosine down to `lr_final` between the fractions `start` and
    `stop`, then `lr_final`.

    The defaults are those of RADLADS step 2 (arXiv 2505.03005), whose mixers anneal between 83% and 87.5% of
    the tokens.
    """
    _check(steps, lr, lr_final)
    if not 0.0 <= start < stop <= 1.0:
        raise ConfigError(f"start, stop are {start}, {stop}; allowed: 0 <= start < stop <= 1")
    done = np.arange(steps) / max(steps, 1)
    return _half_cosine(np.clip((done - start) / (stop - start), 0.0, 1.0), lr, lr_final)


def warmup(schedule: Schedule, warmup_steps: int) -> Schedule:
    """`schedule` with its first `warmup_steps` entries scaled by a linear ramp 1/w, 2/w, .., 1; the rest
    is unchanged.
    """
    if not 0 <= warmup_steps <= len(schedule):
        raise ConfigError(
            f"warmup_steps is {warmup_steps}; allowed: 0 to the number of steps, {len(schedule)}"
        )
    out = schedule.copy()
    out[:warmup_steps] *= np.arange(1, warmup_steps + 1, dtype=np.float32) / max(warmup_steps, 1)
    return out


def combine(mixers: Schedule, rest: Schedule) -> Schedule:
    """float32 [steps, 2]: column 0 is the rate of the linear mixers, column 1 the rate of every other
    parameter.
    """
    if mixers.shape != rest.shape or mixers.ndim != 1:
        raise ConfigError(
            f"mixers, rest have shapes {mixers.shape}, {rest.shape}; allowed: one shape [steps]"
        )
    return np.ascontiguousarray(np.stack([mixers, rest], axis=1), dtype=np.float32)


SCHEDULES: dict[str, Callable[[int, float, float], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "stable_cosine_stable": stable_cosine_stable,
}


def make(name: str, steps: int, lr: float, lr_final: float, warmup_steps: int = 0) -> Schedule:
    """The schedule called `name` in SCHEDULES, float32 [steps], with a warmup when asked for."""
    if name not in SCHEDULES:
        raise ConfigError(f"schedule is {name!r}; allowed: {', '.join(SCHEDULES)}")
    return warmup(SCHEDULES[name](steps, lr, lr_final), warmup_steps)


def _half_cosine(x: npt.NDArray[np.float64], lr: float, lr_final: float) -> Schedule:
    """Fraction x in [0, 1] of the way from lr to lr_final, along half a cosine."""
    return (lr_final + (lr - lr_final) * 0.5 * (1.0 + np.cos(np.pi * x))).astype(np.float32)


def _check(steps: int, lr: float, lr_final: float) -> None:
    if steps < 0:
        raise ConfigError(f"steps is {steps}; allowed: 0 or more")
    for name, value in (("lr", lr), ("lr_final", lr_final)):
        if not (np.isfinite(value) and value >= 0.0):
            raise ConfigError(f"{name} is {value}; allowed: a finite number of at least 0")
