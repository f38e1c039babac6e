"""Step 1 by several processes without MPI: each aligns some layers and keeps them in a folder that all see.

Layers do not depend on each other, so any process can take any of them; each runs the teacher's stream up to
its last layer. A finished layer is one file in the format of checkpoints: its parameters, its losses, and the
run that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import refuse
from ..distributed.state import current
from ..errors import Unfinished
from ..model.result import TrainResult
from . import checkpoint
from .loop import TrainingRun, run
from .settings import Settings


def run_shard(
    training: TrainingRun, settings: Settings, layers: list[int], shard: tuple[int, int], folder: Path
) -> TrainResult:
    """Train those of `layers` that are the shard's (layers i, i + n, .. of shard (i, n)) and not in `folder`
    yet, keep them there, and fill in all others. Raises Unfinished when some are still with other shards,
    ConfigError, and CheckpointError for files of another run.
    """
    index, count = shard
    if not 0 <= index < count:
        raise refuse("shard", f"{index}/{count}", "i/n with i from 0 to n-1")
    if current() is not None:
        raise refuse("shard", f"{index}/{count}", "none with mpiexec, which shares layers out by itself")
    mine = [layer for place, layer in enumerate(layers) if place % count == index]
    missing = [layer for layer in mine if _load(training, folder, layer) is None]
    result = TrainResult(np.full((training.steps, training.columns), np.nan), 0.0, 0.0)
    if missing:
        training.phases = [missing]
        facts = dict(training.facts)
        training.facts["trained"] = missing
        place = (
            folder / f"progress-{index}-of-{count}" if settings.checkpoint is None else settings.checkpoint
        )
        result = run(training, replace(settings, checkpoint=place, checkpoint_last=False))
        training.facts = facts
        for layer in missing:
            arrays = _arrays(training, layer, np.ascontiguousarray(result.losses[:, layer]))
            checkpoint.save(_file(folder, layer), facts, {"phase": 0, "step": training.steps}, arrays)
        checkpoint.remove(place)
    found = {layer: _load(training, folder, layer) for layer in layers}
    waiting = [layer for layer in layers if found[layer] is None]
    if waiting:
        raise Unfinished(
            f"shard {index}/{count} is done; {len(waiting)} layers are still with the other shards: run this "
            "again when they are done"
        )
    losses = np.zeros((training.steps, training.columns))
    for layer in layers:
        column = np.empty(training.steps)
        checkpoint.fill(_file(folder, layer), _arrays(training, layer, column))
        losses[:, layer] = column
    return replace(result, losses=losses)


def _file(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:03d}.safetensors"


def _load(training: TrainingRun, folder: Path, layer: int) -> checkpoint.Found | None:
    """What is kept of a layer, of this very run."""
    found = checkpoint.load(_file(folder, layer))
    if found is not None:
        checkpoint.refuse_other_run(found.file, found.run, training.facts)
    return found


def _arrays(training: TrainingRun, layer: int, losses: np.ndarray) -> Mapping[str, Any]:
    """The parameters that step 1 trains in a layer, and its losses [steps]."""
    names = training.make([layer]).trainable()
    parameters = training.model.arrays(stored=False)
    return {**{f"param.{name}": parameters[name] for name in names}, "losses": losses}
