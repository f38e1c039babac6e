"""The loop around the C trainer: slices of steps with progress between them, checkpoints, resume, and a
clean Ctrl-C.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..distributed.pieces import Stopped
from ..distributed.state import current, is_writer
from ..errors import CheckpointError, HybridAttnError
from ..model.result import TrainResult
from ..results.progress import bar as make_bar
from ..results.progress import log
from ..stop import on_signals
from . import checkpoint
from .moments import moments as moments_of
from .schedules import Schedule
from .settings import Settings
from .share_out import ShareOut
from .stopped import Interrupted, forget

if TYPE_CHECKING:
    from .._core import Distiller
    from ..data.tokens import Tokens, Windows
    from ..model.model import Model


@dataclass
class TrainingRun:
    """One training run. It has phases (all layers at once: one; layer by layer: one per layer) of
    len(windows) steps each.

    windows int64 [steps, batch, 2]; lr float32 [steps, 2]; columns: width of the loss table; make(layers):
    the C trainer of a phase; teacher_hidden, weights, labels, segments: see `_core.Distiller.run`; before(t):
    called before every step t that is a multiple of `before_steps`; reserved: bytes of temporaries, which
    are given back while a checkpoint is written, 0: they stay; facts: what a checkpoint must agree with.
    """

    model: Model
    tokens: Tokens
    windows: Windows
    lr: Schedule
    label: str
    columns: int
    make: Callable[[list[int] | None], Distiller]
    phases: list[list[int] | None] = field(default_factory=lambda: [None])
    teacher_hidden: npt.NDArray[np.float32] | None = None
    weights: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[Any] | None = None
    segments: npt.NDArray[np.int32] | None = None
    before: Callable[[int], None] | None = None
    before_steps: int = 1
    reserved: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.windows)

    @property
    def step_tokens(self) -> npt.NDArray[np.int64]:
        """int64 [steps]: tokens of each step."""
        return (self.windows[:, :, 1] - self.windows[:, :, 0]).sum(axis=1)


def run(training: TrainingRun, settings: Settings) -> TrainResult:
    """Train to the end, from the checkpoint if there is one. Raises CheckpointError, HybridAttnError when
    a loss is NaN.

    KeyboardInterrupt leaves the model as it is after the last whole step, writes the checkpoint, and goes on
    as `Interrupted`, or ends here, see `Settings.interrupt`.
    """
    forget()
    with on_signals("SIGINT"):
        return _Trainer(training, settings).run()


class _Trainer:
    """A training run under way."""

    def __init__(self, training: TrainingRun, settings: Settings) -> None:
        self.training = training
        self.settings = settings
        self.phase = 0
        self.losses = np.full((training.steps, training.columns), math.nan)
        self.seen = self.losses.copy()  # of this phase, as the core writes them
        self.trained: list[str] = []  # parameters of the phases before this one
        self.saved_at = time.monotonic()
        self.tokens_done = 0
        self.sharing = ShareOut(training, align=training.label == "align")

    def run(self) -> TrainResult:
        training = self.training
        started = time.monotonic()
        if current() is not None:
            training.facts |= self.sharing.facts()
            self.sharing.check(training.label, training.facts)
        distiller = self._resume() or training.make(training.phases[0])
        total = int(training.step_tokens.sum())
        before = total * self.phase + int(training.step_tokens[: distiller.step].sum())
        self.bar = make_bar(
            None,
            training.label,
            self.settings.progress,
            total=total * len(training.phases),
            initial=before,
            unit="tok",
            unit_scale=True,
            leave=True,
            delay=0.0,
        )
        with self.bar:
            while True:
                try:
                    self._train(distiller)
                except KeyboardInterrupt as stop:
                    if current() is not None and not isinstance(stop, Stopped):
                        raise  # of this rank alone: the others are elsewhere
                    self._save(distiller)
                    return self._stopped(distiller, started)
                self._note(distiller)
                self.sharing.finish(distiller)
                if self.phase + 1 == len(training.phases):
                    break
                self.trained += distiller.trainable()
                self.phase += 1
                distiller = training.make(training.phases[self.phase])
        if self.settings.checkpoint_last:
            self._save(distiller)
        seconds = time.monotonic() - started
        return TrainResult(self.losses, self.tokens_done / seconds if seconds else 0.0, seconds)

    def _stopped(self, distiller: Distiller, started: float) -> TrainResult:
        """What there is after Ctrl-C; raised in an Interrupted, unless it shall be returned."""
        whole = distiller.step if len(self.training.phases) == 1 else len(self.losses)
        seconds = time.monotonic() - started
        speed = self.tokens_done / seconds if seconds else 0.0
        result = TrainResult(self.losses[:whole].copy(), speed, seconds, interrupted=True)
        if self.settings.interrupt == "return":
            return result
        self.training.model.train_result = result
        raise Interrupted(self.training.model, result, self.training.steps)

    def _train(self, distiller: Distiller) -> None:
        """The steps of one phase that are still to do."""
        settings, size, last_save = self.settings, 1, distiller.step
        while distiller.step < self.training.steps:
            left = min(
                self.training.steps - distiller.step, last_save + settings.checkpoint_steps - distiller.step
            )
            started, first = time.monotonic(), distiller.step
            if self.training.before is not None:
                if first % self.training.before_steps == 0:
                    self.training.before(first)
                left = min(left, self.training.before_steps - first % self.training.before_steps)
            self._slice(distiller, first, first + min(size, left))
            per_step = (time.monotonic() - started) / (distiller.step - first)
            size = self.sharing.decide(max(1, int(self.sharing.slice_seconds / max(per_step, 1e-6))))
            if distiller.step == self.training.steps and self.phase + 1 == len(self.training.phases):
                break  # the end is saved, or not, by `run`
            due = distiller.step - last_save >= settings.checkpoint_steps
            if self.sharing.decide(due or time.monotonic() - self.saved_at >= settings.checkpoint_seconds):
                self._save(distiller)
                last_save = distiller.step

    def _slice(self, distiller: Distiller, start: int, stop: int) -> None:
        """Steps start .. stop-1."""
        training = self.training

        def after_step(step: int, loss: float, gradient_norm: float, tokens: int) -> None:
            self.tokens_done += int(training.step_tokens[step])
            self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self.bar.update(int(training.step_tokens[step]))

        try:
            if self.sharing.how is not None:
                self.sharing.how.run(distiller, start, stop, after_step, self.seen[start:stop])
                return
            distiller.run(
                training.tokens,
                training.windows,
                training.lr,
                start,
                stop,
                training.teacher_hidden,
                after_step,
                training.weights,
                training.labels,
                training.segments,
                self.seen[start:stop],
            )
        except ValueError as error:  # the loss or a gradient is not finite
            raise HybridAttnError(f"{training.label}: {error}") from None

    def _note(self, distiller: Distiller) -> None:
        """The losses of this phase's whole steps. The core writes them where no signal can come between a
        step and its loss; here they join those of other phases, whose columns the core leaves at 0.
        """
        layers = self.training.phases[self.phase]
        columns = slice(None) if layers is None else layers
        self.losses[: distiller.step, columns] = self.seen[: distiller.step, columns]

    def _save(self, distiller: Distiller) -> None:
        self._note(distiller)
        if self.settings.checkpoint is None:
            return
        position = {"phase": self.phase, "step": distiller.step}
        arrays = self._arrays(distiller, self.sharing.whole(distiller))
        label, path = self.training.label, self.settings.checkpoint
        if self.training.reserved:
            distiller.reserve(self.training.reserved)
        if is_writer():
            log.info("%s: checkpoint of step %d to %s", label, distiller.step, path)
            checkpoint.save(self.settings.checkpoint, self.training.facts, position, arrays)
        self.saved_at = time.monotonic()

    def _resume(self) -> Distiller | None:
        """The trainer as the checkpoint left it; None when there is no checkpoint."""
        path, facts = self.settings.checkpoint, self.training.facts
        found = checkpoint.load(path) if path is not None else None
        self.sharing.check(f"checkpoint {path}", {"position": found and found.position})
        if found is None:
            return None
        log.info("%s goes on from %s at %s", self.training.label, found.file, dict(found.position))
        position, start = found.position, found.run.get("start")
        saved = {**{name: value for name, value in checkpoint.BEFORE.items() if name in facts}, **found.run}
        checkpoint.refuse_other_run(found.file, saved, {**facts, "start": start})
        if start != facts["start"]:
            # right, too, is the model that the interruption left as it is in the checkpoint
            parameters = {f"param.{name}": array for name, array in self.training.model.arrays().items()}
            if not checkpoint.holds(found.file, parameters):
                checkpoint.refuse_other_run(found.file, saved, facts)
            facts["start"] = start
        for name, most in (("phase", len(self.training.phases) - 1), ("step", self.training.steps)):
            if position[name] > most:
                raise CheckpointError(
                    f"{found.file}: {name} is {position[name]}; allowed: 0 to {most}, as in this run"
                )
        self.phase = position["phase"]
        for layers in self.training.phases[: self.phase]:
            self.trained += self.training.make(layers).trainable()
        distiller = self.training.make(self.training.phases[self.phase])
        checkpoint.fill(
            found.file, self._arrays(distiller, moments_of(distiller)), self.sharing.parts(distiller)
        )
        self.seen[...] = self.losses
        distiller.step = position["step"]
        return distiller

    def _arrays(self, distiller: Distiller, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Everything a checkpoint holds: views that can be read and written, and these moments."""
        parameters = self.training.model.arrays(stored=False)
        names = [*self.trained, *distiller.trainable()]
        return {
            **{f"param.{name}": parameters[name] for name in names},
            **moments,
            "losses": self.losses,
        }
