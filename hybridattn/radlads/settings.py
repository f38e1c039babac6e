"""What a training step is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from ..checks import bytes_of, check_choice, check_int, check_number, refuse
from ..distributed.state import current
from .moments import MOMENTS, MomentsType


@dataclass(frozen=True)
class Settings:
    """What the three training steps share; all are keywords of `align`, `distill` and `finetune`.

    seed: order of the windows and start of the linear mixers. warmup_steps: steps over which both rates ramp
    up from 0. micro_batch: windows per forward and backward pass, 0: as many as make up 512 tokens; memory
    grows with it, the gradient is that of the whole batch. recompute: in steps 2 and 3 keep only each layer's
    input and run the layer again in the backward pass: the same gradients, a seventh of the activations, one
    more forward pass; a number: of the first so many layers. moments: how AdamW's are kept, "float32", or
    "bfloat16" in half the memory, rounded stochastically; "auto": float32 unless `memory` asks for less.
    memory: the most that the process may hold while it trains, as "2GiB" or in bytes; the fastest settings
    that keep within it are chosen, see `memory`. betas, eps, weight_decay: AdamW.
    clip: gradients are scaled down to this norm. window_dropout: the share of steps in which `window_linear`
    hides its softmax window, so that its linear part has to learn; drawn by (seed, step).
    checkpoint: a folder or .safetensors file to resume from when it exists, written every `checkpoint_steps`
    steps or `checkpoint_seconds` seconds, on Ctrl-C and, unless `checkpoint_last` is False, at the end.
    progress: show a bar with loss, tokens per second and time left. interrupt: what Ctrl-C leads to, "raise"
    an `Interrupted` with the model and its losses, or "return" both as if that had been the end.
    """

    seed: int = 0
    warmup_steps: int = 0
    micro_batch: int = 0
    recompute: bool | int = False
    moments: MomentsType | Literal["auto"] = "auto"
    memory: str | int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    window_dropout: float = 0.0
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_steps: int = 100
    checkpoint_seconds: float = 300.0
    checkpoint_last: bool = True
    progress: bool = True
    interrupt: str = "raise"

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("warmup_steps", 0), ("micro_batch", 0), ("checkpoint_steps", 1)):
            check_int(name, getattr(self, name), low)
        check_choice("moments", self.moments, ("auto", *MOMENTS))
        if self.memory is not None:
            bytes_of(self.memory)
        if not isinstance(self.recompute, bool):
            check_int("recompute", self.recompute, 0)
        check_choice("interrupt", self.interrupt, ("raise", "return"))
        for name, above in (
            ("eps", True),
            ("weight_decay", False),
            ("clip", True),
            ("checkpoint_seconds", True),
        ):
            check_number(name, getattr(self, name), above=above)
        if not 0.0 <= self.window_dropout <= 1.0:
            raise refuse("window_dropout", self.window_dropout, "a share of the steps, 0 to 1")
        if [0.0 <= beta < 1.0 for beta in self.betas] != [True, True]:
            raise refuse("betas", self.betas, "two numbers from 0 up to, but not, 1")

    @property
    def compares(self) -> bool:
        """Whether a run is told from others, by its checkpoint or between ranks."""
        return self.checkpoint is not None or current() is not None

    def facts(self) -> dict[str, Any]:
        """The settings that decide the result."""
        names = (
            "seed", "warmup_steps", "micro_batch", "betas", "eps", "weight_decay", "clip", "window_dropout",
        )  # fmt: skip
        return {
            **{name: value for name, value in asdict(self).items() if name in names},
            "moments": self.kept,
        }

    @property
    def kept(self) -> MomentsType:
        """How AdamW's moments are kept when nothing else was chosen."""
        return "float32" if self.moments == "auto" else self.moments


class SettingKeywords(TypedDict, total=False):
    """The fields of `Settings` as keywords, for type checkers."""

    seed: int
    warmup_steps: int
    micro_batch: int
    recompute: bool | int
    moments: MomentsType | Literal["auto"]
    memory: str | int | None
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip: float
    window_dropout: float
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
    head_rows: int = 0  # see `Distiller`
