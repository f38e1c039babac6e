"""Progress of a training run in one safetensors file: weights, both moments, losses, the position, and
what run it is.

Written whole or not at all. A file of another run is refused by naming the first field that differs, so a
resumed run is the run that was interrupted, bit for bit. It is read one tensor at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from ..formats.safetensors import save_safetensors


def finish_checkpoint(path: Path) -> None:
    """Delete a checkpoint, file or folder, that has served."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


FORMAT = "hybridattn-checkpoint-1"
FILE_NAME = "checkpoint.safetensors"

_DTYPES = {"F32": np.float32, "F64": np.float64}


class Found(NamedTuple):
    """What a checkpoint says about itself: whose run it is (see `save`), and how far it got."""

    run: dict[str, Any]
    position: dict[str, int]


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


def load(path: str | os.PathLike[str]) -> Found | None:
    """What the checkpoint says, or None when there is none yet. Raises CheckpointError when it is damaged."""
    target = location(path)
    if not target.is_file():
        return None
    with _opened(target) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{target}: format is {metadata.get('format')!r}; allowed: {FORMAT!r}")
    try:
        return Found(json.loads(metadata["run"]), json.loads(metadata["position"]))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{target}: its metadata cannot be read: {error}") from None


def refuse_other_run(path: str | os.PathLike[str], saved: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """CheckpointError naming the first field in which the saved run is another one than `run`."""
    difference = _difference(saved, json.loads(json.dumps(run)), "")
    if difference:
        field, old, new = difference
        raise CheckpointError(
            f"{location(path)}: {field} is {_short(old)} in the checkpoint and {_short(new)} in this run; "
            "resume with the same settings, or delete the file to start from step 0"
        )


def fill(path: str | os.PathLike[str], wanted: Mapping[str, np.ndarray]) -> None:
    """Copy the checkpoint's tensors into `wanted`, all of them and no others. Raises CheckpointError on a
    misfit.

    Everything is checked before anything is written.
    """
    target = location(path)
    with _opened(target) as file:
        for name in sorted(set(file.keys()) ^ wanted.keys()):
            where = "is missing in the file" if name in wanted else "is not part of this run"
            raise CheckpointError(f"{target}: tensor {name!r} {where}")
        for name, out in wanted.items():
            part = file.get_slice(name)
            dtype, shape = np.dtype(_DTYPES.get(part.get_dtype(), np.void)), tuple(part.get_shape())
            if (dtype, shape) != (out.dtype, out.shape):
                raise CheckpointError(
                    f"{target}: tensor {name!r} is {dtype} {list(shape)}; "
                    f"this run needs {out.dtype} {list(out.shape)}"
                )
        for name, out in wanted.items():
            out[...] = file.get_tensor(name)


def holds(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether every one of `arrays` is in the checkpoint, bit for bit."""
    with _opened(location(path)) as file:
        names = set(file.keys())
        return all(
            name in names and np.array_equal(file.get_tensor(name), array) for name, array in arrays.items()
        )


@contextmanager
def _opened(target: Path) -> Iterator[Any]:
    try:
        with safe_open(target, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{target}: not a whole checkpoint: {reason}; delete it to start from step 0"
        ) from None


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
