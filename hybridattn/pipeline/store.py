"""Results of finished stages on disk, each with a fingerprint of everything it was made from."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import atomic_write
from ..radlads.checkpoint import finish_checkpoint

VERSION = 3  # raise it when a stage's result changes its meaning: all folders then run again


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

    def path(self, name: str) -> Path:
        """Where the result of a stage is; "distill/uniform" -> stages/distill-uniform.json."""
        return self.out / "stages" / f"{name.replace('/', '-')}.json"

    def load(self, name: str, digest: str) -> dict[str, Any] | None:
        """The record of a stage done with these very inputs; else, or when it cannot be read, None."""
        try:
            record = json.loads(self.path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("fingerprint") == digest else None

    def drop(self, name: str) -> None:
        """Forget the record of a stage, before the files it speaks of are overwritten."""
        self.path(name).unlink(missing_ok=True)

    def save(self, name: str, digest: str, seconds: float, result: dict[str, Any]) -> dict[str, Any]:
        """Write the record that `load` reads; the stage counts as done from here on."""
        record = {"fingerprint": digest, "seconds": seconds, "result": result}
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path(name), json.dumps(record, indent=1) + "\n")
        self.drop_checkpoints(name)
        return record

    def checkpoint(self, name: str, digest: str, part: str = "") -> Path:
        """Where an unfinished stage, or a part of it, keeps its progress. What was kept for other inputs is
        deleted: it can serve no more.
        """
        folder = self.out / "checkpoints"
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
        return self.out / "checkpoints" / "teacher-hidden.npy"

    def clean(self) -> None:
        """Delete what only an unfinished run needs."""
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)

    def drop_checkpoints(self, name: str, keep: Path | None = None) -> None:
        """Delete the progress files of a stage."""
        for path in (self.out / "checkpoints").glob(f"{name.replace('/', '-')}.*"):
            if keep is None or not path.name.startswith(keep.name):
                finish_checkpoint(path)
