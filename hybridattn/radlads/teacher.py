"""The teacher's final hidden states on disk: a teacher that does not change is computed once, not once per
epoch.

The file is a .npy array float32 [n, D] by stream position, whose room on the disk is reserved before it is
mapped. Beside it a JSON file says whose states these are, and for every slice of windows that is filled the
checksum of its states: an interrupted filling goes on where it was, and damaged states are made again.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..data.tokens import TokenData, Tokens, Windows, digest, overlap, slices
from ..distributed.pieces import spread, together
from ..distributed.state import current, is_writer
from ..errors import DataError
from ..files import atomic_write, checksum
from ..locks import beside, locked
from ..reading import read_json
from ..results.progress import bar

if TYPE_CHECKING:
    from ..model.model import Model


FORMAT = "hybridattn-teacher-cache-2"
SLICE_TOKENS = 8192  # tokens between two notes of progress
CORE_ROWS = 2048  # tokens that ha_windows_hidden takes together
ROWS = 2  # tag of messages


def final_hidden(model: Model, data: TokenData) -> npt.NDArray[np.float32]:
    """Hidden states after the final norm at every token of the windows, float32 [tokens, hidden_size].

    Raises DataError when windows overlap: one position would have two states (see `TokenData.apart`).
    """
    if (both := overlap(data.windows)) is not None:
        raise DataError(f"windows {both[0]} and {both[1]} overlap; allowed: windows that do not")
    out = np.zeros((len(data.tokens), model.config["hidden_size"]), np.float32)

    def work(part: Windows) -> list[npt.NDArray[np.float32]]:
        model.forward_windows(data.tokens, part, out, data.segments)
        return [out[start:stop] for start, stop in part.tolist()]

    parts = batches_alike(data.windows)
    for part, rows in zip(parts, spread(parts, work, what="parts of the text"), strict=True):
        for (start, stop), states in zip(part.tolist(), rows, strict=True):
            out[start:stop] = states
    return out


def batches_alike(windows: Windows) -> list[Windows]:
    """Windows in the groups in which the core takes slices of them, whose states have the same last digits by
    themselves: slices of SLICE_TOKENS, each from its start in groups of up to CORE_ROWS tokens.
    """
    found = []
    for part in slices(windows, SLICE_TOKENS):
        first, used = 0, 0
        for at, length in enumerate((part[:, 1] - part[:, 0]).tolist()):
            if at > first and used + length > CORE_ROWS:
                found.append(part[first:at])
                first, used = at, 0
            used += length
        found.append(part[first:])
    return found


def weights_fingerprint(model: Model) -> str:
    """A digest of a model's parameters and of what decides how they are used."""
    arrays, stored = model.arrays(stored=False), model.stored()
    facts: list[Any] = [model.config, model.layers, list(arrays)]
    if stored:
        facts.append({name: dtype for name, (dtype, _) in stored.items()})
    if model.compute != "float32":
        facts.append({"compute": model.compute})
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
    parts, world = slices(unique, SLICE_TOKENS), current()
    # two runs fill one cache once; of the ranks of a world the first one writes it
    with locked(beside(target, "lock"), wait=True) if is_writer() else nullcontext():
        sums: list[str] | None = []
        if is_writer():
            sums = _read_note(target, note, fingerprint, shape, parts)
        if is_writer() and sums is None:
            note.unlink(missing_ok=True)
            target.unlink(missing_ok=True)  # a run that still maps the old file keeps it
            sums = []
            _write_note(note, fingerprint, sums)  # first: an array without a note is taken for another's
            _reserve(target, shape)
        if world is not None:
            sums = world.share(sums)
        assert sums is not None
        if len(sums) < len(parts):
            _fill(target, note, fingerprint, teacher, tokens, parts, sums, progress, segments)
    if world is not None:
        world.barrier()
    return np.asarray(np.lib.format.open_memmap(target, mode="r"))


def remove_cache(path: Path) -> None:
    """Take a cache away that has served; a file that `open_cache` did not make stays."""
    note = path.with_name(path.name + ".json")
    if _content(note) is not None:
        path.unlink(missing_ok=True)
        note.unlink()


def _reserve(target: Path, shape: tuple[int, int]) -> None:
    """Make the array file with all its room on the disk. OSError when that is not to be had: a mapped file
    that the disk cannot hold would end the process at the first write to the missing room.
    """
    try:
        states = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=shape)
        states.flush()
        del states
        with open(target, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        target.unlink(missing_ok=True)
        size = 4 * shape[0] * shape[1]
        reason = f"{os.strerror(error.errno or 0)}: the teacher cache takes {size:,} bytes"
        raise OSError(error.errno, reason, str(target)) from None


def _fill(
    target: Path,
    note: Path,
    fingerprint: str,
    teacher: Model,
    tokens: Tokens,
    parts: list[Windows],
    sums: list[str],
    progress: bool,
    segments: npt.NDArray[np.int32] | None,
) -> None:
    """Fill the slices of windows from `len(sums)` on. They are the same with and without an interruption: the
    last digits depend on them.
    """
    world = current()
    states: Any = np.lib.format.open_memmap(target, mode="r+") if is_writer() else _room(tokens, teacher)
    sizes = [int((part[:, 1] - part[:, 0]).sum()) for part in parts]
    done = sum(sizes[: len(sums)])
    with bar(
        None, "teacher", progress, total=sum(sizes), initial=done, unit="tok", unit_scale=True
    ) as moving:
        while len(sums) < len(parts):
            first = len(sums)
            group = parts[first : first + (1 if world is None else world.size)]
            _compute(teacher, tokens, group, np.asarray(states), segments)
            if is_writer():
                states.flush()
            sums += [_sum(states, part) if is_writer() else "" for part in group]
            _write_note(note, fingerprint, sums)
            moving.update(sum(sizes[first : len(sums)]))


def _room(tokens: Tokens, teacher: Model) -> npt.NDArray[np.float32]:
    """Memory for states on a rank that does not write them; what is not used takes none."""
    return np.zeros((len(tokens), int(teacher.config["hidden_size"])), np.float32)


def _compute(
    teacher: Model,
    tokens: Tokens,
    group: list[Windows],
    states: npt.NDArray[np.float32],
    segments: npt.NDArray[np.int32] | None,
) -> None:
    """States of a part of windows a rank, into rank 0's `states`."""
    world = current()
    rank = 0 if world is None else world.rank

    def work() -> None:
        if rank < len(group):
            teacher.forward_windows(tokens, group[rank], states, segments)

    if world is None:
        work()
        return
    together(world, work)
    for source, part in enumerate(group[1:], 1):
        for start, stop in part.tolist():
            if rank == 0:
                world.receive(states[start:stop], source, ROWS)
            elif rank == source:
                world.send(states[start:stop], 0, ROWS)


def _sum(states: npt.NDArray[np.float32], part: Windows) -> str:
    """The checksum of the states of some windows."""
    sums = "".join(checksum(states[start:stop]) for start, stop in part.tolist())
    return checksum(np.frombuffer(sums.encode(), np.uint8))


def _write_note(note: Path, fingerprint: str, sums: list[str]) -> None:
    atomic_write(note, json.dumps({"format": FORMAT, "fingerprint": fingerprint, "sums": sums}) + "\n")


def _content(note: Path) -> dict[str, Any] | None:
    """What a note says; None when it is not one of a teacher cache, of this release or another."""
    try:
        content = read_json(note, DataError)
    except (OSError, DataError):
        return None
    ours = isinstance(content, dict) and str(content.get("format")).startswith("hybridattn-teacher-cache-")
    return content if ours else None


def _read_note(
    target: Path, note: Path, fingerprint: str, shape: tuple[int, int], parts: list[Windows]
) -> list[str] | None:
    """The checksums of the slices of a cache that are filled and whole; None when it is not there or is
    another one's.
    """
    content = _content(note)
    if target.exists() and content is None:
        raise DataError(
            f"{target}: exists, but {note.name} does not say that it is a teacher cache; give another path"
        )
    if content is None or content.get("format") != FORMAT or content.get("fingerprint") != fingerprint:
        return None
    sums = content.get("sums")
    if not isinstance(sums, list) or len(sums) > len(parts) or not target.is_file():
        return None
    try:
        states = np.lib.format.open_memmap(target, mode="r")
    except Exception:  # a header is read as Python data: what a damaged one raises has no end
        return None
    if states.shape != shape or states.dtype != np.float32:
        return None
    whole = 0
    while whole < len(sums) and _sum(states, parts[whole]) == sums[whole]:
        whole += 1
    return sums[:whole]
