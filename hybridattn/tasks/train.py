"""Fine-tuning on labelled sequences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

import numpy as np

from ..checks import check_int, check_number, refuse
from ..data.tokens import digest
from ..model.result import TrainResult
from ..radlads import schedules
from ..radlads.loop import TrainingRun, run
from ..radlads.settings import SettingKeywords, Settings, StageSettings
from ..radlads.steps import make_distiller, run_facts
from ..signatures import options_of
from .examples import Examples
from .head import head_of, without_padding

if TYPE_CHECKING:
    from ..model.model import Model

BERT_BETAS = (0.9, 0.999)


@options_of(Settings, betas=BERT_BETAS, warmup_steps=None)
def finetune(
    model: Model,
    examples: Examples,
    *,
    epochs: float = 3.0,
    steps: int | None = None,
    batch_size: int = 16,
    lr: float = 2e-5,
    lr_mixers: float | None = None,
    warmup: float = 0.1,
    callback: Callable[[int, Model], object] | None = None,
    callback_steps: int | None = None,
    **settings: Unpack[SettingKeywords],
) -> TrainResult:
    """Train all of `model`, in place, on its task: cross-entropy of classes, mean squared error of values, or
    the mean cross-entropy of a span's start and end; the loss is the mean over sequences.

    steps: in the place of epochs. lr: of everything but mixers, which learn at `lr_mixers` (by default lr);
    both rise over the share `warmup` of the steps (or `warmup_steps`) and fall to 0 along a straight line.
    callback(step, model) is called after every `callback_steps` steps (by default an epoch's) and at the end,
    to evaluate; a run that is resumed may call it again for the step it resumes at. The others: see
    `radlads.Settings`, with betas (.9, .999), as BERT has them; with a checkpoint a run that was stopped goes
    on as if it had not been. Raises ConfigError, DataError, CheckpointError.
    """
    task = head_of(model)
    for name, value in (("batch_size", batch_size), ("callback_steps", callback_steps), ("steps", steps)):
        if value is not None:
            check_int(name, value)
    if check_number("warmup", warmup) > 1.0:
        raise refuse("warmup", warmup, "0 to 1, the share of the steps")
    table = examples.targets(task)
    epoch = max(1, math.ceil(len(examples) / batch_size))
    if steps is None:
        steps = math.ceil(check_number("epochs", epochs, above=True) * len(examples) / batch_size)
    settings.setdefault("betas", BERT_BETAS)
    if settings.get("warmup_steps") is None:
        settings["warmup_steps"] = round(warmup * steps)
    options = Settings(**settings)
    if options.memory is not None:
        raise refuse("memory", options.memory, "None for tasks: set moments, recompute and micro_batch")
    stage = StageSettings("finetune", steps, batch_size, {"lr": lr, "lr_mixers": lr_mixers}, options)
    rates = [
        schedules.warmup_linear(steps, rate, options.warmup_steps)
        for rate in (lr if lr_mixers is None else lr_mixers, lr)
    ]
    chosen = examples.data.order(steps, batch_size, options.seed)
    labels = np.ascontiguousarray(table[chosen])
    every = callback_steps or epoch
    training = TrainingRun(
        model=model,
        tokens=examples.data.tokens,
        segments=examples.data.segments,
        windows=without_padding(model, examples.data.windows, examples.data.tokens)[chosen],
        lr=schedules.combine(rates[0], rates[1]),
        label=stage.name,
        columns=1,
        make=lambda _: make_distiller(model, None, stage),
        labels=labels,
    )
    if callback is not None:
        training.before_steps = every

        def between(step: int) -> None:
            if step:
                callback(step, model)

        training.before = between
    if options.compares:
        training.facts = run_facts(training, stage, labels=digest(labels))
    model.train_result = run(training, options)
    if callback is not None:
        callback(steps, model)
    return model.train_result
