"""The teacher's final hidden states on disk: a teacher that does not change is computed once, not once per
epoch.

The file is a .npy array float32 [n, D] by stream position, beside it a JSON file that says whose states these
are and how many windows are filled, so that an interrupted filling goes on where it was.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .. import __version__
from ..data.tokens import TokenData, Tokens, Windows, digest, overlap, slices
from ..errors import DataError
from ..files import atomic_write, locked

if TYPE_CHECKING:
    from ..model.model import Model


def final_hidden(model: Model, data: TokenData) -> npt.NDArray[np.float32]:
    """Hidden states after the final norm at every token of the windows, float32 [tokens, hidden_size].

    Raises DataError when windows overlap: one position would have two states (see `TokenData.apart`).
    """
    if (both := overlap(data.windows)) is not None:
        raise DataError(f"windows {both[0]} and {both[1]} overlap; allowed: windows that do not")
    out = np.zeros((len(data.tokens), model.config["hidden_size"]), np.float32)
    for part in slices(data.windows, SLICE_TOKENS):
        model.forward_windows(data.tokens, part, out, data.segments)
    return out


FORMAT = "hybridattn-teacher-cache-1"
SLICE_TOKENS = 8192  # tokens between two notes of progress


def weights_fingerprint(model: Model) -> str:
    """A digest of a model's parameters and of what decides how they are used."""
    arrays, stored = model.arrays(stored=False), model.stored()
    facts: list[Any] = [model.config, model.layers, list(arrays)]
    if stored:
        facts.append({name: dtype for name, (dtype, _) in stored.items()})
    text = json.dumps(facts, sort_keys=True)
    kept = [data for _, data in stored.values()]
    return digest(np.frombuffer(text.encode(), np.uint8), np.array(model.gates), *arrays.values(), *kept)


def open_cache(
    path: str | os.PathLike[str],
    teacher: Model,
    tokens: Tokens,
    windows: Windows,
    progress: bool = True,
    segments: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.float32]:
    """float32 [n, D], mapped read-only: the teacher's hidden states (after the final norm) at every
    position in `windows`.

    tokens int32 [n]; windows int64 [.., 2], repeats allowed; segments int32 [n] or None. A cache of the same
    teacher, tokens, windows and segments is reused, any other one is made anew. Raises DataError when windows
    overlap (one position would have two states), or when `path` is a file that this function did not make.
    """
    target = Path(path)
    if not target.name:
        raise DataError(f"cache_teacher is {os.fspath(path)!r}; allowed: the name of a .npy file")
    if target.suffix != ".npy":
        target = target.with_name(target.name + ".npy")
    note = target.with_name(target.name + ".json")
    unique = np.unique(windows.reshape(-1, 2), axis=0)
    if (both := overlap(unique)) is not None:
        raise DataError(
            f"windows {both[0]} and {both[1]} overlap; allowed with a teacher cache: windows that do not"
        )
    shape = (len(tokens), int(teacher.config["hidden_size"]))
    made_by = f"{__version__} {weights_fingerprint(teacher)}"
    more = [] if segments is None else [segments]
    fingerprint = digest(np.frombuffer(made_by.encode(), np.uint8), tokens, unique, *more)
    with locked(target.with_name(target.name + ".lock"), wait=True):  # two runs fill one cache once
        done = _read_note(target, note, fingerprint, shape)
        if done is None:
            note.unlink(missing_ok=True)
            target.unlink(missing_ok=True)  # a run that still maps the old file keeps it
            _write_note(note, fingerprint, 0)  # first: an array without a note would be taken for another's
            np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape).flush()
            done = 0
        if done < len(unique):
            _fill(target, note, fingerprint, teacher, tokens, unique, done, progress, segments)
        return np.asarray(np.lib.format.open_memmap(target, mode="r"))


def _fill(
    target: Path,
    note: Path,
    fingerprint: str,
    teacher: Model,
    tokens: Tokens,
    windows: Windows,
    done: int,
    progress: bool,
    segments: npt.NDArray[np.int32] | None,
) -> None:
    states = np.lib.format.open_memmap(target, mode="r+")
    total = int((windows[:, 1] - windows[:, 0]).sum())
    before = int((windows[:done, 1] - windows[:done, 0]).sum())
    with tqdm(
        total=total,
        initial=before,
        desc="teacher",
        unit="tok",
        unit_scale=True,
        disable=not progress,
        leave=False,
    ) as bar:
        reached = 0
        for part in slices(windows, SLICE_TOKENS):
            reached += len(part)
            if reached <= done:
                continue  # the same slices as without the interruption: the last digits depend on them
            teacher.forward_windows(tokens, part, np.asarray(states), segments)
            states.flush()
            done = reached
            _write_note(note, fingerprint, done)
            bar.update(int((part[:, 1] - part[:, 0]).sum()))


def _write_note(note: Path, fingerprint: str, done: int) -> None:
    atomic_write(
        note, json.dumps({"format": FORMAT, "fingerprint": fingerprint, "windows_done": done}) + "\n"
    )


def _read_note(target: Path, note: Path, fingerprint: str, shape: tuple[int, int]) -> int | None:
    """How many windows of a cache are filled; None when it is not there or is another one's."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        ours = isinstance(content, dict) and content.get("format") == FORMAT
    except FileNotFoundError:
        ours, content = False, {}
    except ValueError:
        ours, content = False, {}
    if target.exists() and not ours:
        raise DataError(
            f"{target}: exists, but {note.name} does not say that it is a teacher cache; give another path"
        )
    if not ours or content.get("fingerprint") != fingerprint or not target.is_file():
        return None
    try:
        states = np.lib.format.open_memmap(target, mode="r")
    except (ValueError, OSError):
        return None
    whole = states.shape == shape and states.dtype == np.float32
    return int(content["windows_done"]) if whole else None
