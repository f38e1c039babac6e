"""The folder in which what was fetched is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """`cache_dir`, else $HYBRIDATTN_CACHE, else ~/.cache/hybridattn. Not created here."""
    return Path(cache_dir or os.environ.get("HYBRIDATTN_CACHE") or Path.home() / ".cache" / "hybridattn")


def made(folder: Path) -> Path:
    """The folder, which is there now."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
