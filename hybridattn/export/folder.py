"""A folder that appears when it is whole: written beside its place under a name of its own, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..files import OURS, sync_folder, write_sheet
from ..reading import read_json

SHEET = "hybridattn_export.json"  # what the folder is and which files belong to it


@contextmanager
def staged(target: Path, force: bool = False) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `target` when the block ends well.

    After an error, or Ctrl-C, nothing is left behind and `target` is as it was. A process that is killed
    leaves a folder whose name begins with `.hybridattn-`. Raises ExportError before anything is written when
    `target` holds something else than an earlier export and `force` is not set.
    """
    if not force:
        _refuse_other(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = _beside(target)
    work.mkdir()
    try:
        yield work
        if not force:
            _refuse_other(target)  # it may have been filled while we wrote
        sync_folder(work)
        _replace(target, work)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def write_sheet_of(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the sheet by which a folder is known as an export."""
    write_sheet(folder / SHEET, {"format": 1, **content})


def _replace(target: Path, work: Path) -> None:
    """Put `work` in the place of `target`; what was there is away only when that has been done."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(f"{target}: is not a folder; allowed: a new name or a folder")
    if not target.exists():
        os.rename(work, target)
        return
    old = _beside(target)
    os.rename(target, old)
    try:
        os.rename(work, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f"{OURS}{target.name}-{os.getpid()}-{secrets.token_hex(4)}")


def _refuse_other(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(f"{target}: is not a folder; allowed: a new name, or a folder that an export wrote")
    if not target.exists():
        return
    held = {path.name for path in target.iterdir() if not path.name.startswith(OURS)}
    others = sorted(held - _own_files(target))
    if others:
        raise ExportError(
            f"{target}: holds {others[0]}{f' and {len(others) - 1} more' if others[1:] else ''}; allowed: "
            "a new folder, an empty one or an earlier export (force, --force, replaces what is there)"
        )


def _own_files(target: Path) -> set[str]:
    """The files that the sheet of an earlier export lists."""
    try:
        sheet = read_json(target / SHEET, ExportError)
    except (OSError, ExportError):
        return set()
    files = sheet.get("files") if isinstance(sheet, dict) else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()
