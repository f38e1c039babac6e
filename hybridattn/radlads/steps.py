"""RADLADS (arXiv 2505.03005): step 1 aligns linear mixers, step 2 distils the teacher's logits, step 3
fine-tunes.

Step 0, the transfer of the softmax weights, is `Model.to_probe`, which `align` calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .. import __version__
from .._core import Distiller
from ..checks import refuse
from ..data.tokens import digest
from ..distributed.state import current
from ..model.base import gates_for, switchable
from ..model.result import TrainResult
from ..signatures import options_of
from . import schedules
from .align_shards import run_shard
from .loop import TrainingRun, run
from .memory import within
from .schedules import align_lr
from .settings import SettingKeywords, Settings, StageSettings
from .teacher import open_cache, weights_fingerprint
from .window_dropout import window_dropout

if TYPE_CHECKING:
    from ..data.tokens import TokenData
    from ..model.model import Model


def sampler(model: Model, budgets: bool | Sequence[int], seed: int) -> Callable[[int], None]:
    """What elastic distillation does before step t: set the gates to a budget drawn from `budgets` (True: any
    from 0 to all layers) by (seed, t), so that a resumed run draws the same.
    """
    count = len(model.layers)
    choices: Any = list(range(count + 1)) if budgets is True else budgets
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise refuse("elastic", budgets, "True, or numbers of softmax layers")
    table = [gates_for(model, k) for k in choices]

    def before(step: int) -> None:
        model.gates[:] = table[int(np.random.default_rng([seed, step]).integers(len(table)))]

    return before


@options_of(Settings)
def align(
    teacher: Model,
    mixer: Mapping[str, Any],
    data: TokenData,
    steps: int,
    batch_size: int,
    *,
    lr: float | None = None,
    lr_final: float = 1e-5,
    schedule: str = "cosine",
    init: str = "transfer",
    layerwise: bool = False,
    shard: tuple[int, int] | None = None,
    folder: str | os.PathLike[str] | None = None,
    **settings: Unpack[SettingKeywords],
) -> Model:
    """Step 1: the probe, `teacher` with a linear mixer of spec `mixer` in every layer, trained to imitate
    the softmax one.

    The loss of a layer is the mean over tokens of |softmax output - linear output| * hidden_size**-0.5; the
    softmax output flows on, so layers do not depend on each other. layerwise=True trains them one at a time,
    with the training memory of one layer and the same result (gradients are clipped per layer), at the price
    of more forward passes.

    init: where the linear mixers start, "transfer" (softmax weights alone) or "calibrated", which reads the
    first 8192 tokens of `data` (see `Model.to_probe`); the result's `calibration` holds its cost.

    folder: finished layers are kept there and found again. shard (i, n): this process does only layers i,
    i + n, ..; Unfinished is raised until all are there. A run without a shard over the same folder does what
    is missing.

    steps, batch_size: optimizer steps, windows per step. lr: by default `align_lr` of the mixer's kind, else
    1e-3. The others: see `radlads.Settings`. The probe's `train_result` holds the losses [steps, num_layers].
    Raises ConfigError, DataError, CheckpointError.
    """
    options = Settings(**settings)
    world = current()
    if layerwise and world is not None and world.size > 1:
        raise refuse(
            "layerwise", True, "False with ranks: each has the training memory of its own layers alone"
        )
    data.within(teacher.model_config.max_positions)
    probe = teacher.to_probe(mixer, seed=options.seed, init=init, data=data if init == "calibrated" else None)
    if lr is None:
        lr = align_lr(mixer["kind"])
    layers = range(len(probe.layers))
    rates = {"schedule": schedule, "lr": lr, "lr_final": lr_final}
    stage = StageSettings("align", steps, batch_size, rates, options)
    training = TrainingRun(
        model=probe,
        tokens=data.tokens,
        segments=data.segments,
        windows=data.batches(steps, batch_size, options.seed),
        lr=schedules.combine(
            schedules.make(schedule, steps, lr, lr_final, options.warmup_steps),
            schedules.constant(steps, 0.0),
        ),
        label=stage.name,
        columns=len(layers),
        make=lambda chosen: make_distiller(probe, None, stage, chosen),
        phases=[[i] for i in switchable(probe)] if layerwise else [None],
    )
    if options.compares or folder is not None:
        training.facts = run_facts(training, stage, layerwise=layerwise, teacher=weights_fingerprint(teacher))
    if folder is None and shard is not None:
        raise refuse("folder", None, "a folder that all shards see")
    within(training, stage, lambda chosen, which: make_distiller(probe, None, chosen, which))
    with window_dropout(training, options.window_dropout, options.seed):
        if folder is None:
            probe.train_result = run(training, options)
        else:
            trained = list(switchable(probe))
            probe.train_result = run_shard(training, options, trained, shard or (0, 1), Path(folder))
    return probe


@options_of(Settings)
def distill(
    hybrid: Model,
    teacher: Model,
    data: TokenData,
    steps: int,
    batch_size: int,
    *,
    lr_mixers: float = 1e-4,
    lr_rest: float = 1e-5,
    lr_final: float | None = None,
    schedule: str = "constant",
    cache_teacher: str | os.PathLike[str] | None = None,
    elastic: bool | Sequence[int] = False,
    **settings: Unpack[SettingKeywords],
) -> TrainResult:
    """Step 2: train all of `hybrid`, in place, on KL(teacher || hybrid) of the next-token distributions, nats
    per token.

    Of models with a task (see `tasks`) it is the KL of the task's logits, nats per sequence, or the squared
    error of its values; of models without any head the relative squared error of their final hidden states.
    data: its `weights`, if any, say how much each token counts, as in scores: answers alone, or the masked
    tokens of a bidirectional model.

    Mixers (softmax ones too) learn at `lr_mixers`, everything else at `lr_rest`. A schedule that anneals goes
    to `lr_final`, by default lr_rest: with "stable_cosine_stable" only the mixers anneal, as in RADLADS.
    cache_teacher: a .npy path; the teacher's final hidden states are computed once into it, and reused by
    every run with the same teacher, text and windows. elastic: every step trains with another number of
    softmax layers, drawn from these (True: from all), of a model made by `elastic.make`; gates are put
    back afterwards. The others: see `radlads.Settings`. Raises ConfigError, DataError, CheckpointError.
    """
    options = Settings(**settings)
    for key in ("vocab_size", "hidden_size"):
        if hybrid.config[key] != teacher.config[key]:
            raise refuse(
                f"{key} of the hybrid", hybrid.config[key], f"{teacher.config[key]}, as in the teacher"
            )
    rates = _rates(schedule, lr_mixers, lr_rest, lr_final)
    stage = StageSettings("distill", steps, batch_size, rates, options)
    training = _whole_model(stage, hybrid, teacher, data)
    if options.compares:
        training.facts |= {"teacher_compute": teacher.compute, "teacher": weights_fingerprint(teacher)}
    if cache_teacher is not None:
        training.teacher_hidden = open_cache(
            cache_teacher, teacher, data.tokens, training.windows, options.progress, data.segments
        )
    if elastic is not False:
        training.before = sampler(hybrid, elastic, options.seed)
        training.facts["elastic"] = elastic if isinstance(elastic, bool) else list(elastic)
        training.facts["softmax_order"] = list(hybrid.softmax_order or ())
    gates = hybrid.gates.copy()
    try:
        if elastic is not False:  # room for both mixers of a layer serves any choice
            hybrid.gates[switchable(hybrid)] = 0.5
        within(training, stage, lambda chosen, _: make_distiller(hybrid, teacher, chosen))
        hybrid.gates[:] = gates
        with window_dropout(training, options.window_dropout, options.seed):
            hybrid.train_result = run(training, options)
    finally:
        hybrid.gates[:] = gates
    return hybrid.train_result


@options_of(Settings)
def finetune(
    hybrid: Model,
    data: TokenData,
    steps: int,
    batch_size: int,
    *,
    lr_mixers: float = 1e-5,
    lr_rest: float = 1e-5,
    lr_final: float | None = None,
    schedule: str = "constant",
    **settings: Unpack[SettingKeywords],
) -> TrainResult:
    """Step 3: train all of `hybrid`, in place, on the text itself (cross-entropy of the next token, so causal
    models only; `data.weights` say how much each counts). Arguments as in `distill`.
    """
    if hybrid.model_config.bidirectional:
        raise refuse("hybrid", "bidirectional", "a causal model: a bidirectional one sees the next token")
    options = Settings(**settings)
    rates = _rates(schedule, lr_mixers, lr_rest, lr_final)
    stage = StageSettings("finetune", steps, batch_size, rates, options)
    training = _whole_model(stage, hybrid, None, data)
    within(training, stage, lambda chosen, _: make_distiller(hybrid, None, chosen))
    with window_dropout(training, options.window_dropout, options.seed):
        hybrid.train_result = run(training, options)
    return hybrid.train_result


def _rates(schedule: str, lr_mixers: float, lr_rest: float, lr_final: float | None) -> dict[str, Any]:
    """The rates of step 2 or 3 as `StageSettings` holds them."""
    final = lr_rest if lr_final is None else lr_final
    return {"schedule": schedule, "lr_mixers": lr_mixers, "lr_rest": lr_rest, "lr_final": final}


def _whole_model(stage: StageSettings, hybrid: Model, teacher: Model | None, data: TokenData) -> TrainingRun:
    """Step 2 or 3: every parameter is trained, in one phase."""
    data.within(hybrid.model_config.max_positions)
    rates, ramp = stage.rates, stage.shared.warmup_steps
    rest, final = rates["lr_rest"], rates["lr_final"]
    training = TrainingRun(
        model=hybrid,
        tokens=data.tokens,
        segments=data.segments,
        windows=data.batches(stage.steps, stage.batch_size, stage.shared.seed),
        lr=schedules.combine(
            schedules.make(rates["schedule"], stage.steps, rates["lr_mixers"], final, ramp),
            schedules.make(rates["schedule"], stage.steps, rest, min(rest, final), ramp),
        ),
        label=stage.name,
        columns=1,
        make=lambda _: make_distiller(hybrid, teacher, stage),
    )
    if stage.shared.compares:
        training.facts = run_facts(training, stage)
    if data.weights is not None:
        training.weights = data.weights
        training.facts["weights"] = digest(data.weights)
    return training


def make_distiller(
    student: Model, teacher: Model | None, stage: StageSettings, layers: list[int] | None = None
) -> Distiller:
    """The C trainer of a stage; layers: those that it trains (None: all)."""
    shared = stage.shared
    return Distiller(
        student,
        teacher,
        stage=stage.name,
        betas=(shared.betas[0], shared.betas[1]),
        eps=shared.eps,
        weight_decay=shared.weight_decay,
        clip=shared.clip,
        micro_batch=min(shared.micro_batch, stage.batch_size),
        recompute=shared.recompute
        if shared.recompute is True
        else min(shared.recompute, len(student.layers)),
        moments=shared.kept,
        head_rows=stage.head_rows,
        layers=layers,
    )


def run_facts(training: TrainingRun, stage: StageSettings, **more: Any) -> dict[str, Any]:
    """What a checkpoint of this run must agree with, the readable settings first: the first difference is
    reported.
    """
    segments = [] if training.segments is None else [training.segments]
    return {
        "stage": stage.name,
        "version": __version__,
        "model": training.model.config,
        "layers": training.model.layers,
        "gates": training.model.gates.tolist(),
        "compute": training.model.compute,
        "steps": training.steps,
        "batch_size": stage.batch_size,
        **stage.shared.facts(),
        **stage.rates,
        **more,
        "data": digest(training.tokens, training.windows, *segments),
        "rates": digest(training.lr),
        "start": weights_fingerprint(training.model),
    }
