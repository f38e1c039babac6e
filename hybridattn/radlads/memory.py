"""The fastest settings of a training step whose process stays within a budget of bytes.

Nothing is guessed. One micro-batch is rehearsed with the least memory (every layer recomputed, no moment
touched); what the process then holds, the moments to come and the peak of the temporaries add up to the
whole, and every layer that is not recomputed adds what it saves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import bytes_of, refuse
from ..distributed.state import current
from ..errors import ConfigError
from ..results.progress import log
from .layer_sharing import span
from .moments import arena
from .settings import StageSettings

if TYPE_CHECKING:
    from .._core import Distiller
    from .loop import TrainingRun

PAGE = 2 << 20  # the system may give memory in pages of so many bytes
MARGIN = 6 << 20  # what Python takes while it trains
FEWER_ROWS = 128  # of logits at a time, when memory is short: half of what the core takes by itself
MICRO_ROWS = 512  # tokens of a micro-batch that nobody chose

Make = Callable[[StageSettings, list[int] | None], "Distiller"]


def resident() -> int:
    """Bytes of memory that this process holds. ConfigError where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        raise refuse(
            "memory", "a budget", "None on this system: it does not tell what a process holds"
        ) from None
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Choice:
    """Settings, and what a run with them takes at its peak."""

    moments: str
    micro_batch: int  # windows
    head_rows: int  # 0: as many as are fast
    recompute: int  # layers
    temporaries: int  # bytes
    total: int  # bytes


def fit(training: TrainingRun, stage: StageSettings, make: Make) -> None:
    """Let `training` make trainers within the budget of `stage`, which has one; facts that its result
    depends on are noted. ConfigError when the least possible is more.
    """
    world = current()
    if world is not None and world.size > 1:
        raise refuse("memory", stage.shared.memory, "None with ranks: set moments, recompute and micro_batch")
    budget = bytes_of(stage.shared.memory or 0)
    choice = _Search(training, stage, make, budget).best()
    chosen = replace(
        stage,
        head_rows=choice.head_rows,
        shared=replace(
            stage.shared,
            moments=choice.moments,  # type: ignore[arg-type]  # one of MOMENTS
            micro_batch=choice.micro_batch,
            recompute=choice.recompute,
        ),
    )
    log.info(
        "%s within %s: %s expected; moments %s, micro-batch %d, %d layers recomputed, %s rows of logits",
        training.label, _size(budget), _size(choice.total), choice.moments, choice.micro_batch,
        choice.recompute, choice.head_rows or "most",
    )  # fmt: skip

    training.reserved = choice.temporaries

    def trainer(layers: list[int] | None) -> Distiller:
        distiller = make(chosen, layers)
        distiller.reserve(choice.temporaries)
        return distiller

    training.make = trainer
    if training.facts:
        training.facts |= {"moments": choice.moments, "micro_batch": choice.micro_batch}
        training.facts |= {"head_rows": choice.head_rows} if choice.head_rows else {}


class _Search:
    """The settings that there are, from the fastest to the least."""

    def __init__(self, training: TrainingRun, stage: StageSettings, make: Make, budget: int) -> None:
        self.training, self.stage, self.make, self.budget = training, stage, make, budget
        lengths = training.windows[:, :, 1] - training.windows[:, :, 0]
        at = np.unravel_index(int(lengths.argmax()), lengths.shape)
        self.longest: npt.NDArray[np.int64] = training.windows[at]
        self.least = 0

    def best(self) -> Choice:
        for micro_batch, head_rows in self._pieces():
            for choice in self._choices(micro_batch, head_rows):
                self.least = min(self.least or choice.total, choice.total)
                if choice.total <= self.budget:
                    return choice
        hint = {"align": "; layerwise=True takes less", "distill": "; a teacher kept as it lies in its file "
                '(dtype="auto") takes less'}.get(self.stage.name, "")  # fmt: skip
        raise ConfigError(
            f"memory is {self.stage.shared.memory!r}; allowed: at least {_size(self.least + MARGIN)} "
            f"({self.least} bytes) for this {self.stage.name}{hint}"
        )

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """Windows at a time and rows of logits: as asked for, then less, where nobody asked for it."""
        asked = min(self.stage.shared.micro_batch, self.stage.batch_size)
        full = asked or min(self.stage.batch_size, max(1, MICRO_ROWS // self._length()))
        counts = [full] if asked else [full >> i for i in range(full.bit_length())]
        for count in counts:
            yield count, 0
            if self.stage.name == "distill" and count * self._length() > FEWER_ROWS:
                yield count, FEWER_ROWS

    def _length(self) -> int:
        return int(self.longest[1] - self.longest[0])

    def _choices(self, micro_batch: int, head_rows: int) -> Iterator[Choice]:
        """With that much at a time: as few layers recomputed as asked for, then more."""
        stage, asked = self.stage, self.stage.shared
        trial = replace(stage, head_rows=head_rows, shared=replace(asked, recompute=True))
        distiller = self.make(trial, self.training.phases[0])
        windows = np.repeat(self.longest[None, None], micro_batch, axis=1)
        training = self.training
        peak, kept = distiller.rehearse(
            training.tokens, windows, training.teacher_hidden, training.weights, training.segments
        )
        held = resident() + MARGIN
        saving = 0
        if asked.checkpoint is not None:  # its largest tensor is read back, twice in memory
            saving = 2 * max(array.nbytes for array in training.model.arrays(stored=False).values())
        layers = len(kept) if stage.name != "align" else 0
        first = int(asked.recompute) if asked.recompute is not True else layers
        kinds = ("float32", "bfloat16") if asked.moments == "auto" else (asked.moments,)
        for recompute in range(min(first, layers), layers + 1):
            temporaries = int(peak) + int(kept[recompute:layers].sum())
            for kind in kinds:
                moments = self._moments(distiller, 4 if kind == "float32" else 2)
                total = held + moments + max(temporaries, saving)
                yield Choice(kind, micro_batch, head_rows, recompute, temporaries, total)

    def _moments(self, distiller: Distiller, item: int) -> int:
        """Bytes of both moments of what is trained, in whole pages."""
        weights, arrays = arena(distiller, "weights"), self.training.model.arrays(stored=False)
        pages: set[int] = set()
        for name in distiller.trainable():
            place = span(weights, arrays[name])
            pages.update(range(place.start * item // PAGE, (place.stop * item - 1) // PAGE + 1))
        return 2 * min(PAGE * len(pages), item * weights.size)


def _size(value: int) -> str:
    return f"{value / 2**20:,.0f} MiB"


def within(training: TrainingRun, stage: StageSettings, make: Callable[..., Any]) -> None:
    """`fit` where the stage has a budget."""
    if stage.shared.memory is not None:
        fit(training, stage, make)
