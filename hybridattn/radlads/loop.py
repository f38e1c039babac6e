"""The loop around the C trainer: slices of steps with progress between them, checkpoints, resume, and a
clean Ctrl-C.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_int, check_number, refuse
from ..errors import CheckpointError, HybridAttnError
from ..model.result import TrainResult
from ..results.progress import bar as make_bar
from ..results.progress import log
from ..stop import on_signals
from . import checkpoint
from .schedules import Schedule
from .stopped import Interrupted, forget

if TYPE_CHECKING:
    from .._core import Distiller
    from ..data.tokens import Tokens, Windows
    from ..model.model import Model

_SLICE_SECONDS = 1.0  # of work handed to the C trainer at once


@dataclass(frozen=True)
class Settings:
    """What the three training steps share; all are keywords of `align`, `distill` and `finetune`.

    seed: order of the windows and start of the linear mixers. warmup_steps: steps over which both rates ramp
    up from 0. micro_batch: windows per forward and backward pass, 0: as many as make up 512 tokens; memory
    grows with it, the gradient is that of the whole batch. recompute: in steps 2 and 3 keep only each layer's
    input and run the layer again in the backward pass: the same gradients, a seventh of the activations, one
    more forward pass. betas, eps, weight_decay: AdamW. clip: gradients are scaled down to this norm.
    checkpoint: a folder or .safetensors file to resume from when it exists, written every `checkpoint_steps`
    steps or `checkpoint_seconds` seconds, on Ctrl-C and, unless `checkpoint_last` is False, at the end.
    progress: show a bar with loss, tokens per second and time left. interrupt: what Ctrl-C leads to, "raise"
    an `Interrupted` with the model and its losses, or "return" both as if that had been the end.
    """

    seed: int = 0
    warmup_steps: int = 0
    micro_batch: int = 0
    recompute: bool = False
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_steps: int = 100
    checkpoint_seconds: float = 300.0
    checkpoint_last: bool = True
    progress: bool = True
    interrupt: str = "raise"

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("warmup_steps", 0), ("micro_batch", 0), ("checkpoint_steps", 1)):
            check_int(name, getattr(self, name), low)
        check_choice("interrupt", self.interrupt, ("raise", "return"))
        for name, above in (
            ("eps", True),
            ("weight_decay", False),
            ("clip", True),
            ("checkpoint_seconds", True),
        ):
            check_number(name, getattr(self, name), above=above)
        if [0.0 <= beta < 1.0 for beta in self.betas] != [True, True]:
            raise refuse("betas", self.betas, "two numbers from 0 up to, but not, 1")

    def facts(self) -> dict[str, Any]:
        """The settings that decide the result."""
        names = ("seed", "warmup_steps", "micro_batch", "betas", "eps", "weight_decay", "clip")
        return {name: value for name, value in asdict(self).items() if name in names}


class SettingKeywords(TypedDict, total=False):
    """The fields of `Settings` as keywords, for type checkers."""

    seed: int
    warmup_steps: int
    micro_batch: int
    recompute: bool
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip: float
    checkpoint: str | os.PathLike[str] | None
    checkpoint_steps: int
    checkpoint_seconds: float
    checkpoint_last: bool
    progress: bool
    interrupt: str


Stage = Literal["align", "distill", "finetune"]


@dataclass(frozen=True)
class StageSettings:
    """All that a stage is asked for: its length, its rates under the names that the caller gave them, and
    what all stages share.
    """

    name: Stage
    steps: int
    batch_size: int  # windows per step
    rates: Mapping[str, Any]
    shared: Settings


@dataclass
class TrainingRun:
    """One training run. It has phases (all layers at once: one; layer by layer: one per layer) of
    len(windows) steps each.

    windows int64 [steps, batch, 2]; lr float32 [steps, 2]; columns: width of the loss table; make(layers):
    the C trainer of a phase; teacher_hidden, weights, labels, segments: see `_core.Distiller.run`; before(t):
    called before every step t that is a multiple of `before_steps`; facts: what a checkpoint must agree with.
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

    def run(self) -> TrainResult:
        training = self.training
        started = time.monotonic()
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
                except KeyboardInterrupt:
                    self._save(distiller)
                    return self._stopped(distiller, started)
                self._note(distiller)
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
            size = max(1, int(_SLICE_SECONDS / max(per_step, 1e-6)))
            if distiller.step == self.training.steps and self.phase + 1 == len(self.training.phases):
                break  # the end is saved, or not, by `run`
            due = distiller.step - last_save >= settings.checkpoint_steps
            if due or time.monotonic() - self.saved_at >= settings.checkpoint_seconds:
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
        label, path = self.training.label, self.settings.checkpoint
        log.info("%s: checkpoint of step %d to %s", label, distiller.step, path)
        checkpoint.save(self.settings.checkpoint, self.training.facts, position, self._arrays(distiller))
        self.saved_at = time.monotonic()

    def _resume(self) -> Distiller | None:
        """The trainer as the checkpoint left it; None when there is no checkpoint."""
        path, facts = self.settings.checkpoint, self.training.facts
        found = checkpoint.load(path) if path is not None else None
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
        checkpoint.fill(found.file, self._arrays(distiller))
        self.seen[...] = self.losses
        distiller.step = position["step"]
        return distiller

    def _arrays(self, distiller: Distiller) -> dict[str, np.ndarray]:
        """Everything a checkpoint holds, as views that can be read and written."""
        parameters, moments = self.training.model.arrays(stored=False), distiller.moments()
        names = [*self.trained, *distiller.trainable()]
        return {
            **{f"param.{name}": parameters[name] for name in names},
            **{
                f"{kind}.{name}": tensor.numpy()
                for kind in ("m", "v")
                for name, tensor in moments[kind].items()
            },
            "losses": self.losses,
        }
