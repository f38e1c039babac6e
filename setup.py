"""Build of hybridattn._core, the one extension module, from csrc/. The rest is in pyproject.toml.

Environment switches:

    HYBRIDATTN_BLIS_PREFIX=DIR                  take BLIS from DIR (see find_blis.py)
    HYBRIDATTN_RELEASE=1                        for other machines: BLIS static, no symbols (wheels/make.py)
    HYBRIDATTN_WERROR=1                         warnings are errors (CI)
    HYBRIDATTN_SANITIZE=address,undefined       or thread: build for that sanitizer
    HYBRIDATTN_COVERAGE=1                       gcov counters
    HYBRIDATTN_DEBUG=1                          -Og -g3, HA_DEBUG defined
    HYBRIDATTN_JOBS=N                           parallel compilers (default: one per usable core)

Objects live in build/obj/<flags' hash>/, so builds with different switches never mix, and are compiled
again only when a file they include has changed.
"""

import hashlib
import os
import re
import shlex
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not look beside setup.py
from find_blis import BlisNotFound, NoCompiler, compiler, find  # noqa: E402

os.environ.setdefault("CC", shlex.join(compiler()))  # one compiler finds BLIS and builds

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(
        f"error: {sys.executable} is a free-threaded CPython, and the C core counts on the GIL; allowed: the "
        f"ordinary python{sys.version_info.major}.{sys.version_info.minor}, without the t"
    )

# Contraction into FMA is wanted; everything else stays IEEE. -ffast-math is not: at link time it turns on
# flush-to-zero for the whole process. -march=native is not: one binary runs everywhere (see csrc/kernels).
CFLAGS = [
    "-std=gnu11",
    "-O3",
    "-fopenmp",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
]
LDFLAGS = ["-fopenmp", "-Wl,--exclude-libs,ALL"]


def release() -> bool:
    """True for a build that other machines will run."""
    return os.environ.get("HYBRIDATTN_RELEASE") == "1"


def switches() -> tuple[list[str], list[str]]:
    """Extra (compile, link) flags asked for by the environment."""
    compile_flags: list[str] = []
    link_flags: list[str] = []
    if release():
        compile_flags += ["-g0"]
        link_flags += ["-Wl,--strip-all"]
    if os.environ.get("HYBRIDATTN_WERROR") == "1":
        compile_flags += ["-Werror"]
    if os.environ.get("HYBRIDATTN_DEBUG") == "1":
        compile_flags += ["-Og", "-g3", "-UNDEBUG", "-DHA_DEBUG=1"]
    if os.environ.get("HYBRIDATTN_COVERAGE") == "1":
        compile_flags += ["-O1", "-g", "--coverage", "-fprofile-update=atomic"]
        link_flags += ["--coverage"]
    sanitize = os.environ.get("HYBRIDATTN_SANITIZE", "")
    if sanitize:
        if not set(sanitize.split(",")) <= {"address", "undefined", "leak", "thread"}:
            sys.exit(f"HYBRIDATTN_SANITIZE={sanitize}: allowed are address, undefined, leak, thread")
        compile_flags += ["-O1", "-g", f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
        compile_flags += ["-fno-sanitize-recover=all"]
        link_flags += [f"-fsanitize={sanitize}"]
    return compile_flags, link_flags


def up_to_date(obj: Path) -> bool:
    """True when obj is newer than its source and every project file that it includes."""
    deps = obj.with_suffix(".d")
    if not (obj.is_file() and deps.is_file()):
        return False
    names = deps.read_text().replace("\\\n", " ").partition(":")[2].split()
    built = obj.stat().st_mtime
    return all(os.path.exists(name) and os.path.getmtime(name) <= built for name in names)


class BuildCore(build_ext):
    """Compiles in parallel, keeps objects of different switches apart, and always links."""

    def build_extension(self, ext):
        blis = self.find_blis()
        more_compile, more_link = switches()
        cflags = [
            *CFLAGS,
            *blis.cflags,
            "-isystem",
            numpy.get_include(),
            f'-DHA_VERSION="{self.distribution.get_version()}"',
            f'-DHA_BLIS_SOURCE="{blis.source}"',
            *more_compile,
        ]  # after Python's own flags, so these win
        key = [*self.compiler.compiler_so, *cflags, numpy.__version__, sys.version]
        key[key.index(numpy.get_include())] = "numpy"  # a new temporary folder in every isolated build
        folder = Path("build", "obj", hashlib.sha256("\0".join(key).encode()).hexdigest()[:12])
        macros = ext.define_macros

        def compile_one(source):
            [obj] = self.compiler.object_filenames([source], output_dir=str(folder))
            if not up_to_date(Path(obj)):
                Path(obj).parent.mkdir(parents=True, exist_ok=True)
                deps = ["-MMD", "-MF", str(Path(obj).with_suffix(".d"))]
                self.compiler.compile(
                    [source],
                    output_dir=str(folder),
                    macros=macros,
                    debug=self.debug,
                    include_dirs=ext.include_dirs,
                    extra_postargs=[*cflags, *deps],
                )
            return obj

        with ThreadPoolExecutor(self.jobs()) as pool:
            objects = list(pool.map(compile_one, ext.sources))
        # Python's own command may name the folder of its libpython, which no extension module needs
        command = self.compiler.linker_so
        self.compiler.linker_so = [part for part in command if not part.startswith("-Wl,-rpath,")]
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            debug=self.debug,
            build_temp=self.build_temp,
            extra_postargs=[*blis.libs, *LDFLAGS, *more_link],
        )

    @staticmethod
    def find_blis():
        try:
            blis = find()
        except (NoCompiler, BlisNotFound) as error:
            sys.exit(f"\nerror: {error}\n")
        if release() and not blis.source.endswith("(static)"):
            sys.exit(
                f"\nerror: HYBRIDATTN_RELEASE=1: BLIS is {blis.source}; allowed: a libblis.a built with "
                "-fPIC, as libblis-openmp-dev has it, or wheels/blis.sh makes it\n"
            )
        return blis

    @staticmethod
    def jobs() -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, int(os.environ.get("HYBRIDATTN_JOBS") or cores))


def files(pattern: str) -> list[str]:
    """Paths below csrc/ that match, relative to the project, in a fixed order."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob(pattern))


core = Extension(
    "hybridattn._core",
    sources=[name for name in files("*.c") if not re.search(r"\.inc\.c$", name)],
    depends=[*files("*.h"), *files("*.inc.c"), "find_blis.py"],
    include_dirs=["csrc"],
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
