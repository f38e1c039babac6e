#!/usr/bin/env python3
"""Find BLIS: the one place that knows where it may be (standard library only).

Order: the environment variable HYBRIDATTN_BLIS_PREFIX, then `pkg-config blis`, then a compile-and-link
probe of <blis.h> with -lblis (Debian ships no .pc file). Every candidate has to link into a shared
object, the static archive is tried before the shared library. Used by setup.py, tests/setup.sh,
tests/c/Makefile and benchmarks/machine.py.

    python3 find_blis.py              prints where BLIS comes from
    python3 find_blis.py --cflags     prints the compiler flags
    python3 find_blis.py --libs       prints the linker flags
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CURE = """BLIS was not found: looked at HYBRIDATTN_BLIS_PREFIX, `pkg-config blis`, and <blis.h> with -lblis.
Install it with

    sudo apt-get update && sudo apt-get install libblis-openmp-dev

(Fedora: sudo dnf install blis-devel), or build BLIS yourself, with
`./configure --enable-threading=openmp --prefix=DIR auto && make install`, and set
HYBRIDATTN_BLIS_PREFIX=DIR."""

PROBE = """#include <blis.h>
void probe(rntm_t *r, float *x, inc_t n);
void probe(rntm_t *r, float *x, inc_t n)
{
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, 1, 1, 1, x, x, n, 1, x, n, 1, x, x, n, 1, NULL, r);
}
"""


NO_COMPILER = """{what}
Install a C compiler with OpenMP,

    sudo apt-get update && sudo apt-get install gcc libc6-dev

(Fedora: sudo dnf install gcc), or name another one: CC=COMPILER."""


class BlisNotFound(Exception):
    """No usable BLIS; the message says what to do."""


class NoCompiler(Exception):
    """No C compiler that builds a shared object; the message says what to do."""


@dataclass(frozen=True)
class Blis:
    """How to compile and link against one BLIS, and where it came from."""

    cflags: tuple[str, ...]
    libs: tuple[str, ...]
    source: str


def compiler() -> list[str]:
    """The C compiler the extension is built with, as a command prefix: CC, else Python's own, else what is
    there.
    """
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    names = (sysconfig.get_config_var("CC") or "cc", "gcc", "cc", "clang")
    candidates = [shlex.split(name) for name in names]
    return next((command for command in candidates if shutil.which(command[0])), candidates[0])


def link(text: str, cflags: tuple[str, ...], libs: tuple[str, ...]) -> str | None:
    """What stands in the way of a shared object from C text, with nothing undefined; None when it links."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(text)
        options = ["-w", "-fPIC", "-shared", "-Wl,-z,defs", "-fopenmp", *cflags]
        command = [*compiler(), *options, str(source), "-o", str(Path(folder, "probe.so")), *libs]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except OSError as error:
            return str(error)
        return None if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def links(candidate: Blis) -> bool:
    """True when a shared object that calls BLIS compiles and links with nothing undefined."""
    return link(PROBE, candidate.cflags, candidate.libs) is None


def check_compiler() -> None:
    """Raises NoCompiler when not even a shared object without BLIS can be built."""
    command = compiler()
    if shutil.which(command[0]) is None:
        tried = "" if os.environ.get("CC") else ", nor gcc, cc or clang"
        raise NoCompiler(NO_COMPILER.format(what=f"The C compiler {command[0]} was not found{tried}."))
    fault = link("int probe;\n", (), ())
    if fault:
        what = f"The C compiler {shlex.join(command)} cannot build a shared object with OpenMP:\n{fault}"
        raise NoCompiler(NO_COMPILER.format(what=what))


def in_folder(lib: Path, cflags: tuple[str, ...], how: str) -> Iterator[Blis]:
    """Candidates of one library folder: its archive, then its shared library."""
    archive = lib / "libblis.a"
    if archive.is_file():
        yield Blis(cflags, (str(archive), "-lm", "-lpthread"), f"{how}: {archive} (static)")
    libs = (f"-L{lib}", f"-Wl,-rpath,{lib}", "-lblis", "-lm", "-lpthread")
    yield Blis(cflags, libs, f"{how}: {lib} (shared)")


def from_prefix(prefix: Path) -> Iterator[Blis]:
    """Candidates of HYBRIDATTN_BLIS_PREFIX: include/ or include/blis, and lib/ or lib64/."""
    for include in (prefix / "include", prefix / "include" / "blis"):
        if (include / "blis.h").is_file():
            for lib in (prefix / "lib", prefix / "lib64"):
                if lib.is_dir():
                    yield from in_folder(lib, ("-isystem", str(include)), "HYBRIDATTN_BLIS_PREFIX")


def from_pkg_config() -> Iterator[Blis]:
    """Candidates that `pkg-config blis` names."""
    tool = shutil.which(os.environ.get("PKG_CONFIG", "pkg-config"))
    if tool is None or subprocess.run([tool, "--exists", "blis"], capture_output=True).returncode != 0:
        return

    def ask(*options: str) -> str:
        return subprocess.run([tool, *options, "blis"], capture_output=True, text=True).stdout.strip()

    # -isystem: warnings inside BLIS's own header are not ours to fix
    cflags = tuple(shlex.split(ask("--cflags").replace("-I", "-isystem ")))
    libdir = ask("--variable=libdir")
    if libdir:
        yield from in_folder(Path(libdir), cflags, "pkg-config")
    yield Blis(cflags, (*shlex.split(ask("--libs")), "-lm", "-lpthread"), "pkg-config: blis (shared)")


def from_probe() -> Iterator[Blis]:
    """Candidates on the compiler's own paths, and in the sub-folders distributions use."""
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    includes: list[tuple[str, ...]] = [()]
    for folder in (f"/usr/include/{triplet}/blis-openmp", "/usr/include/blis", "/usr/local/include/blis"):
        if Path(folder, "blis.h").is_file():
            includes.append(("-isystem", folder))
    folders = [Path(f"/usr/lib/{triplet}/blis-openmp")] if triplet else []
    for cflags in includes:
        asked = [*compiler(), "-print-file-name=libblis.a"]
        found = Path(subprocess.run(asked, capture_output=True, text=True).stdout.strip())
        if found.is_absolute():
            archive = Path(os.path.normpath(found))
            yield Blis(cflags, (str(archive), "-lm", "-lpthread"), f"probe: {archive} (static)")
        yield Blis(cflags, ("-lblis", "-lm", "-lpthread"), "probe: -lblis (shared)")
        for folder in folders:
            if folder.is_dir():
                yield from in_folder(folder, cflags, "probe")


def find() -> Blis:
    """The first candidate that links.

    Raises NoCompiler when nothing can be compiled at all, and BlisNotFound; each message has the command that
    cures it.
    """
    check_compiler()
    prefix = os.environ.get("HYBRIDATTN_BLIS_PREFIX")
    if prefix:
        for candidate in from_prefix(Path(prefix)):
            if links(candidate):
                return candidate
        raise BlisNotFound(
            f"HYBRIDATTN_BLIS_PREFIX={prefix}: no BLIS there that links. Expected include/blis.h or "
            "include/blis/blis.h, and lib/libblis.a (built with -fPIC) or lib/libblis.so."
        )
    for source in (from_pkg_config, from_probe):
        for candidate in source():
            if links(candidate):
                return candidate
    raise BlisNotFound(CURE)


def main() -> int:
    try:
        blis = find()
    except (NoCompiler, BlisNotFound) as error:
        print(error, file=sys.stderr)
        return 1
    option = sys.argv[1] if len(sys.argv) > 1 else "--source"
    print({"--cflags": shlex.join(blis.cflags), "--libs": shlex.join(blis.libs)}.get(option, blis.source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
