"""Results of finished stages on disk, each with a fingerprint of everything it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import __version__
from ..distributed.state import is_writer
from ..errors import DataError
from ..files import OURS, atomic_write, file_digest, refuse_foreign, sheet_checksum
from ..radlads import checkpoint, teacher
from ..reading import read_json

MARKER = f"{OURS}run"  # a folder that holds it was made by a run
PROGRESS = f"{OURS}progress"  # the folder of what only an unfinished run needs
VERSION = 5  # raise it when a stage's result changes its meaning: all folders then run again


def fingerprint(name: str, inputs: Any) -> str:
    """Hex digest of a stage's name and inputs (anything JSON can hold) and of the package's version; equal
    inputs, equal digest.
    """
    text = json.dumps([VERSION, __version__, name, inputs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
    """stages/NAME.json under the output folder: {"fingerprint", "seconds", "result"}.

    Weights and checkpoints of a stage live beside it (`folder`, `checkpoint`), never in the JSON.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._digests: dict[tuple[str, int, int], str] = {}  # of files as they were last seen

    def claim(self, force: bool = False) -> None:
        """Make the output folder this program's own. DataError when it holds what no run has made, unless
        `force`; nothing of that is ever taken away.
        """
        refuse_foreign(self.out, _made_by_a_run, force)
        self.out.mkdir(parents=True, exist_ok=True)
        if not (self.out / MARKER).exists():
            atomic_write(self.out / MARKER, f"hybridattn {__version__}\n")

    def path(self, name: str) -> Path:
        """Where the result of a stage is; "distill/uniform" -> stages/distill-uniform.json."""
        return self.out / "stages" / f"{name.replace('/', '-')}.json"

    def load(self, name: str, digest: str, files: Iterable[str] = ()) -> dict[str, Any] | None:
        """The record of a stage done with these very inputs, whose files are there; else, or when it cannot
        be read or was changed since, None. DataError when a file is not what the stage wrote: nobody's change
        is written over.
        """
        try:
            record = read_json(self.path(name), DataError)
        except (OSError, DataError):
            return None
        if not isinstance(record, dict) or record.get("fingerprint") != digest:
            return None
        if record.get("checksum") != sheet_checksum(record):
            return None
        wanted, found = record.get("files"), self.digests(files)
        if not isinstance(record.get("result"), dict) or not isinstance(record.get("seconds"), (int, float)):
            return None
        if not isinstance(wanted, dict) or not wanted.keys() <= found.keys():
            return None
        for file, state in wanted.items():
            if found[file] != state:
                raise DataError(
                    f"{self.out / file}: is not as stage {name!r} wrote it (damaged, or edited?); "
                    "put it back, or delete it to have it made again"
                )
        return record

    def digests(self, files: Iterable[str]) -> dict[str, str]:
        """{name: digest} of files below the output folder, and of all files in folders, that are there."""
        found = {}
        for top in files:
            path = self.out / top
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in inside:
                if file.is_file() and not file.name.startswith(OURS):
                    found[file.relative_to(self.out).as_posix()] = self._digest(file)
        return found

    def _digest(self, path: Path) -> str:
        """A digest is taken again when the time or size of a file has changed."""
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size)
        if key not in self._digests:
            self._digests[key] = file_digest(path)
        return self._digests[key]

    def drop(self, name: str) -> None:
        """Forget the record of a stage, before the files it speaks of are overwritten."""
        if is_writer():
            self.path(name).unlink(missing_ok=True)

    def save(
        self, name: str, digest: str, seconds: float, result: dict[str, Any], files: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Write the record that `load` reads; the stage counts as done from here on, as long as `files` stay
        what they are.
        """
        record = {"fingerprint": digest, "seconds": seconds, "result": result, "files": self.digests(files)}
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        written = {**record, "checksum": sheet_checksum(record)}
        atomic_write(self.path(name), json.dumps(written, indent=1) + "\n")
        self.drop_checkpoints(name)
        return record

    def checkpoint(self, name: str, digest: str, part: str = "") -> Path:
        """Where an unfinished stage, or a part of it, keeps its progress. What was kept for other inputs is
        deleted: it can serve no more.
        """
        folder = self.out / PROGRESS
        folder.mkdir(parents=True, exist_ok=True)
        wanted = folder / f"{name.replace('/', '-')}.{digest}"
        self.drop_checkpoints(name, keep=wanted)
        return wanted.with_name(f"{wanted.name}.{part}") if part else wanted

    def spent(self, name: str, digest: str) -> float:
        """Seconds that runs before this one have put into an unfinished stage."""
        try:
            return float(self.checkpoint(name, digest, "seconds").read_text())
        except (OSError, ValueError):
            return 0.0

    def interrupted(self, name: str, digest: str, seconds: float) -> None:
        """Note what an unfinished stage has taken so far."""
        atomic_write(self.checkpoint(name, digest, "seconds"), f"{seconds}\n")

    @property
    def teacher_cache(self) -> Path:
        """The teacher's outputs on the distillation text, shared by the models that are distilled."""
        return self.out / PROGRESS / "teacher-hidden.npy"

    def clean(self) -> None:
        """Delete what only an unfinished run needs, and nothing else."""
        self._drop("*")
        teacher.remove_cache(self.teacher_cache)
        with suppress(OSError):  # somebody else's file lies in it
            (self.out / PROGRESS).rmdir()

    def drop_checkpoints(self, name: str, keep: Path | None = None) -> None:
        """Delete the progress files of a stage."""
        self._drop(f"{name.replace('/', '-')}.*", keep.name if keep else "")

    def _drop(self, pattern: str, keep: str = "") -> None:
        if not is_writer():
            return
        for path in (self.out / PROGRESS).glob(pattern):
            if keep and path.name.startswith(keep):
                continue
            if path.suffix == ".seconds":
                path.unlink(missing_ok=True)
            else:
                checkpoint.remove(path)


def _made_by_a_run(folder: Path) -> bool:
    """Whether a run has written into the folder; releases before the marker left a recipe and stages."""
    old = (folder / "recipe.toml").is_file() and (folder / "stages").is_dir()
    return old or (folder / MARKER).is_file()
