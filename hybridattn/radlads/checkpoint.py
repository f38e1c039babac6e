"""Progress of a training run in one safetensors file: weights, both moments, losses, the position, and
what run it is.

Written whole or not at all, with a checksum of every tensor and of the text beside them. The file before it
is kept until the new one has been read back. A file of another run is refused by naming the first field that
differs, so a resumed run is the run that was interrupted, bit for bit. It is read one tensor at a time.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from ..files import checksum
from ..formats.safetensors import save_safetensors
from ..lazy import contents
from ..reading import parse_json

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "Found",
    "fill",
    "generations",
    "holds",
    "load",
    "location",
    "refuse_other_run",
    "remove",
    "save",
]
__dir__ = contents(__name__)


FORMAT = "hybridattn-checkpoint-2"
FILE_NAME = "checkpoint.safetensors"

BEFORE = {
    "compute": "float32",
    "teacher_compute": "float32",
    "moments": "float32",
    "window_dropout": 0.0,
}  # what a run was before a field said so

_DTYPES = {"F32": np.float32, "F64": np.float64, "U16": np.uint16}


class Found(NamedTuple):
    """What a checkpoint says about itself: the whole file that was found (the newest, or the one before it),
    whose run it is (see `save`), and how far it got.
    """

    file: Path
    run: dict[str, Any]
    position: dict[str, int]


def location(path: str | os.PathLike[str]) -> Path:
    """The file of a checkpoint: `path` itself when it ends in .safetensors, else checkpoint.safetensors in
    that folder.
    """
    target = Path(path)
    return target if target.suffix == ".safetensors" else target / FILE_NAME


def generations(path: str | os.PathLike[str]) -> list[Path]:
    """The files that a checkpoint may lie in, the newest first."""
    newest = location(path)
    return [newest, newest.with_name(f"{newest.stem}.previous.safetensors")]


def save(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    position: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write a checkpoint. run: everything that decides the run's result, as JSON data. position: how far
    it is. Raises CheckpointError when what was written does not read back, OSError when it cannot be written;
    the checkpoint before this one is then still there.
    """
    newest, previous = generations(path)
    newest.parent.mkdir(parents=True, exist_ok=True)
    texts = {
        "format": FORMAT,
        "run": json.dumps(run, sort_keys=True),
        "position": json.dumps(dict(position)),
        "checksums": json.dumps({name: checksum(array) for name, array in arrays.items()}),
    }
    if newest.is_file() and _is_ours(newest):
        os.replace(newest, previous)
    save_safetensors(newest, arrays, {**texts, "checksum": _text_checksum(texts)})
    _prove(newest)
    if _is_ours(previous):
        previous.unlink()


def load(path: str | os.PathLike[str]) -> Found | None:
    """The newest whole checkpoint, or None when there is none yet. Raises CheckpointError when the newest is
    damaged and there is none before it; else a warning names the damaged one.
    """
    there = [file for file in generations(path) if file.is_file()]
    for file in there:
        try:
            _prove(file)
            return _read(file)
        except CheckpointError as error:
            if file == there[-1]:
                raise
            warnings.warn(f"{error}; going on from {there[-1]}", RuntimeWarning, stacklevel=2)
    return None


def remove(path: str | os.PathLike[str]) -> None:
    """Take away a checkpoint that has served, or every one in a folder, and the folder when nothing else is
    in it. Files of anybody else stay.
    """
    folder = Path(path)
    for file in folder.glob("*.safetensors") if folder.is_dir() else generations(path):
        if _is_ours(file):
            file.unlink()
    with suppress(OSError):  # it is not there, or something else lies in it
        folder.rmdir()


def _is_ours(file: Path) -> bool:
    """Whether a file is a checkpoint in this format or an older one of it."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return str((opened.metadata() or {}).get("format", "")).startswith("hybridattn-checkpoint-")
    except (SafetensorError, OSError):
        return False


def _text_checksum(texts: Mapping[str, str]) -> str:
    return f"{zlib.crc32(json.dumps(texts, sort_keys=True).encode()):08x}"


def _read(file: Path) -> Found:
    """What a checkpoint says, every field of the type that it must have."""
    with _opened(file) as opened:
        texts = dict(opened.metadata() or {})
    if texts.get("format") != FORMAT:
        raise CheckpointError(f"{file}: format is {texts.get('format')!r}; allowed: {FORMAT!r}")
    if texts.pop("checksum", None) != _text_checksum(texts):
        raise _damaged(file, "its metadata does not match its checksum")
    try:
        run, position = (parse_json(texts[name], name, CheckpointError) for name in ("run", "position"))
    except (KeyError, CheckpointError) as error:
        raise _damaged(file, f"its metadata cannot be read: {error}") from None
    if not isinstance(run, dict) or not isinstance(position, dict) or position.keys() != {"phase", "step"}:
        raise _damaged(file, "its metadata holds no run and position")
    for name, value in position.items():
        if type(value) is not int or value < 0:
            raise _damaged(file, f"{name} is {value!r}; allowed: an integer of at least 0")
    return Found(file, run, position)


def _prove(file: Path) -> None:
    """CheckpointError unless every tensor has the bytes that its checksum was taken of."""
    _read(file)
    with _opened(file) as opened:
        try:
            sums = parse_json(opened.metadata()["checksums"], "checksums", CheckpointError)
        except (KeyError, CheckpointError):
            raise _damaged(file, "it has no checksums") from None
        if not isinstance(sums, dict) or sums.keys() != set(opened.keys()):
            raise _damaged(file, "its checksums are of other tensors")
    for name, wanted in sums.items():
        with _opened(file) as opened:  # anew: what was mapped for one tensor does not stay in memory
            if checksum(opened.get_tensor(name)) != wanted:
                raise _damaged(file, f"tensor {name!r} does not match its checksum")


def _damaged(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{file}: not a whole checkpoint: {reason}; delete it to start from step 0")


def refuse_other_run(path: str | os.PathLike[str], saved: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """CheckpointError naming the first field in which the saved run is another one than `run`."""
    difference = _difference(saved, json.loads(json.dumps(run)), "")
    if difference:
        field, old, new = difference
        raise CheckpointError(
            f"{path}: {field} is {_short(old)} in the checkpoint and {_short(new)} in this run; "
            "resume with the same settings, or delete the file to start from step 0"
        )


def fill(
    path: str | os.PathLike[str],
    wanted: Mapping[str, np.ndarray],
    parts: Mapping[str, slice] = MappingProxyType({}),
) -> None:
    """Copy the checkpoint's tensors into `wanted`, all of them and no others. Raises CheckpointError on a
    misfit. parts: of these tensors only some of their numbers, in row-major order.

    Everything is checked before anything is written.
    """
    target = Path(path)
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
            if name in parts:
                out.reshape(-1)[parts[name]] = file.get_tensor(name).reshape(-1)[parts[name]]
            else:
                out[...] = file.get_tensor(name)


def holds(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether every one of `arrays` is in the checkpoint, bit for bit."""
    with _opened(Path(path)) as file:
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
        raise _damaged(target, reason) from None


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
