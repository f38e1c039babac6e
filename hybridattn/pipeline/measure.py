"""The stage that times the models of the report, all in turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from .._core import Cache
from ..evaluate import busy
from ..evaluate.rounds import Rounds, take_turns
from ..model.model import Model
from .ids import shown_ids
from .job import Job


def measure(job: Job) -> dict[str, Any]:
    """Prefill and decode time of every model at every length, all in turn; the sizes of caches and models."""
    part, ids = job.recipe.measure, shown_ids(job.recipe)
    sizes: dict[str, dict[str, Any]] = {}

    def stored(model_id: str) -> Model:
        model = job.model(model_id, "before")
        if model_id not in sizes:
            sizes[model_id] = {"parameters": int(model.num_parameters), "fixed": int(Cache(model).nbytes)}
        return model if part.dtype == "float32" else model.astype(part.dtype)

    found = take_turns(
        {model_id: partial(stored, model_id) for model_id in ids},
        part.lengths,
        part.repeats,
        decode_tokens=part.decode_tokens,
        progress=job.progress,
    )
    if warned := busy.warning(found.others):
        job.log(f"measure: {warned}")
    return {
        "timing": {"rounds": part.repeats, "busy": found.others},
        "models": {
            model_id: {
                "cache": {
                    "bytes_per_token": found.bytes_per_token[model_id],
                    "fixed_bytes": sizes[model_id]["fixed"],
                },
                "parameters": sizes[model_id]["parameters"],
                **_times(found, model_id, part.lengths),
            }
            for model_id in ids
        },
    }


def _times(found: Rounds, model_id: str, lengths: Sequence[int]) -> dict[str, Any]:
    """Of a model of the report: medians, ranges, and speeds beside the teacher's."""
    row: dict[str, Any] = {"speed": {}}
    for what in ("prefill", "decode"):
        spreads = {str(length): found.spread(model_id, what, length) for length in lengths}
        row[what] = {length: middle for length, (middle, _, _) in spreads.items()}
        row[f"{what}_range"] = {length: [least, most] for length, (_, least, most) in spreads.items()}
        row["speed"][what] = {
            str(length): found.speed(model_id, what, length, "teacher") for length in lengths
        }
    return row
