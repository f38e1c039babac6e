"""Progress of a training run in one safetensors file: weights, both moments, losses, the position, and
what run it is.

Written whole or not at all. A file of another run is refused by naming the first field that differs, so a
resumed run is the run that was interrupted, bit for bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .errors import CheckpointError
from .weights import save_safetensors

FORMAT = "hybridattn-checkpoint-1"
FILE_NAME = "checkpoint.safetensors"

Arrays = dict[str, np.ndarray]


def location(path: str | os.PathLike[str]) -> Path:
    """The file of a checkpoint: `path` itself when it ends in .safetensors, else checkpoint.safetensors in
    that folder.
    """
    target = Path(path)
    return target if target.suffix == ".safetensors" else target / FILE_NAME


def save(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    position: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write a checkpoint. run: everything that decides the run's result, as JSON data. position: how far
    it is.
    """
    target = location(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": FORMAT,
        "run": json.dumps(run, sort_keys=True),
        "position": json.dumps(dict(position)),
    }
    save_safetensors(target, arrays, metadata)


def load(path: str | os.PathLike[str], run: Mapping[str, Any]) -> tuple[dict[str, int], Arrays] | None:
    """(position, arrays) of the checkpoint, or None when there is none yet.

    Raises CheckpointError when the file is damaged, or was made by another run than `run`.
    """
    target = location(path)
    if not target.is_file():
        return None
    try:
        with safe_open(target, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_run(target, metadata, run)
            position = json.loads(metadata["position"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{target}: not a whole checkpoint: {reason}; delete it to start from step 0"
        ) from None
    return position, arrays


def fill(path: str | os.PathLike[str], arrays: Arrays, wanted: Mapping[str, np.ndarray]) -> None:
    """Copy `arrays` of a checkpoint into `wanted` (same names, written in place). Raises CheckpointError
    on a misfit.

    Everything is checked before anything is written.
    """
    target = location(path)
    for name in sorted(arrays.keys() ^ wanted.keys()):
        where = "is missing in the file" if name in wanted else "is not part of this run"
        raise CheckpointError(f"{target}: tensor {name!r} {where}")
    for name, out in wanted.items():
        if arrays[name].shape != out.shape or arrays[name].dtype != out.dtype:
            have = f"{arrays[name].dtype} {list(arrays[name].shape)}"
            raise CheckpointError(
                f"{target}: tensor {name!r} is {have}; this run needs {out.dtype} {list(out.shape)}"
            )
    for name, out in wanted.items():
        out[...] = arrays[name]


def _check_run(target: Path, metadata: Mapping[str, str], run: Mapping[str, Any]) -> None:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{target}: format is {metadata.get('format')!r}; allowed: {FORMAT!r}")
    try:
        saved = json.loads(metadata["run"])
        json.loads(metadata["position"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{target}: its metadata cannot be read: {error}") from None
    difference = _difference(saved, json.loads(json.dumps(run)), "")
    if difference:
        field, old, new = difference
        raise CheckpointError(
            f"{target}: {field} is {_short(old)} in the checkpoint and {_short(new)} in this run; "
            "resume with the same settings, or delete the file to start from step 0"
        )


def _difference(saved: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    """The first field (dotted name) in which two JSON values differ, with both values; in the order of
    `now`.
    """
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in saved if key not in now)]:
            found = _difference(saved.get(key), now.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return None
    return None if saved == now else (name, saved, now)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
