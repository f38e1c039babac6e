"""The arrows of the C code point down, and every outside dependency has one home.

    kernels <- ops <- mixers <- model <- distill <- python; core serves all, ref serves tests

The rules are the tables below; the checks read text only, so they run without building anything. Each rule is
also given a snippet that breaks it, to prove that it can fail.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"

STACK = ["kernels", "ops", "mixers", "model", "distill", "python"]
MAY_INCLUDE = {layer: {"core", *STACK[: i + 1]} for i, layer in enumerate(STACK)}
MAY_INCLUDE |= {"core": {"core"}, "ref": {"core", "ref"}}
# hybridattn.h, the public header, gathers the library for C programs; only what stands on top includes it
MAY_INCLUDE["api"] = {"core", "ops", "mixers", "model", "distill"}
MAY_INCLUDE["python"] |= {"api"}

# (pattern in the code, where it is allowed as a regular expression on the path, what to say)
ONLY_IN = [
    (r'#\s*include\s*[<"](Python\.h|numpy/)', r"python/", "Python.h and NumPy belong in csrc/python"),
    (r'#\s*include\s*[<"]ref/', r"ref/|python/ops_", "ref/ serves tests, through python/ops_*"),
    (r'#\s*include\s*[<"](blis/)?blis\.h', r"core/blas\.c", "blis.h belongs in core/blas.c"),
    (r"\bbli_\w+", r"core/blas\.c", "BLIS is called in core/blas.c"),
    (r'#\s*include\s*[<"]omp\.h', r"core/openmp\.c", "omp.h belongs in core/openmp.c"),
    (r"\bomp_\w+\s*\(", r"core/openmp\.c", "the OpenMP runtime is called in core/openmp.c"),
    (r'#\s*pragma\s+omp|_Pragma\s*\(\s*"omp', r"(core|ops|mixers|model|distill)/", "no OpenMP here"),
    (r"#\s*pragma\s+omp\s+(?!parallel\b(?![^\n]*\b(reduction|guided|runtime|ordered|lastprivate|sections)\b))",
     r"(?!)", "core/openmp.c runs parallel regions, and static and dynamic loops that are one"),
    (r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|mmap|free|alloca)\s*\(", r"(?!kernels/)",
     "kernels allocate nothing"),
    (r"\b(_?exit|abort|printf|fprintf|vprintf|vfprintf|puts|putchar|perror)\s*\(", r"(?!)",
     "a library neither prints nor ends the process: return a status"),
]  # fmt: skip


def c_files() -> list[str]:
    """Paths of the C sources and headers, relative to csrc/."""
    return sorted(p.relative_to(CSRC).as_posix() for p in CSRC.rglob("*.[ch]"))


def without_comments(text: str, strings: bool) -> str:
    """C text with comments blanked, and the insides of string literals too unless `strings`."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found[0] != "/":
            return found if strings else found[0] * 2
        return "\n" * found.count("\n") or " "

    return token.sub(blank, text)


def layer_of(path: str) -> str:
    return path.split("/")[0] if "/" in path else "api"


def c_violations(path: str, text: str) -> list[str]:
    """What the file `path` (relative to csrc/) does against the rules, one line each."""
    found = []
    layer = layer_of(path)
    if layer not in MAY_INCLUDE:
        return [f"{path}: no such layer; known are {', '.join(sorted(MAY_INCLUDE))}"]
    code = without_comments(text, strings=True)
    for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', code, re.M):
        beside = (Path(path).parent / name).as_posix()
        target = beside if (CSRC / beside).is_file() else name
        if layer_of(target) not in MAY_INCLUDE[layer] and not name.startswith(("ref/", "blis")):
            found.append(f"{path}: includes {name}, which is not below {layer}")
    bare = without_comments(text, strings=False)
    for pattern, where, message in ONLY_IN:
        # an include or a _Pragma names its subject in quotes
        hit = re.search(pattern, code if "include" in pattern or "pragma" in pattern else bare)
        if hit and not re.match(where, path):
            found.append(f"{path}: {hit.group().strip()}: {message}")
    return found


@pytest.mark.parametrize("path", c_files())
def test_c_layers(path):
    assert c_violations(path, (CSRC / path).read_text()) == []


@pytest.mark.parametrize(
    "path, text",
    [
        ("kernels/x.c", '#include "ops/ops.h"'),
        ("ops/x.c", '#include "mixers/mixer.h"'),
        ("core/x.c", '#include "kernels/kernels.h"'),
        ("model/x.c", '# include "distill/distill.h"'),
        ("ops/x.c", '#include "hybridattn.h"'),
        ("ops/x.c", '#include "ref/ref.h"'),
        ("python/model.c", '#include "ref/ref.h"'),
        ("model/x.h", "#include <Python.h>"),
        ("ops/x.c", "#include <numpy/arrayobject.h>"),
        ("ops/x.c", "#include <blis.h>"),
        ("ops/x.c", "  bli_sgemm(a);"),
        ("ops/x.c", "#include <omp.h>"),
        ("ops/x.c", "omp_set_num_threads (2);"),
        ("kernels/x.c", "#pragma omp parallel for"),
        ("kernels/x.inc.c", '_Pragma("omp simd")'),
        ("ops/x.c", "#pragma omp for schedule(static)"),
        ("ops/x.c", "#pragma omp barrier"),
        ("ops/x.c", "#pragma omp parallel for schedule(guided)"),
        ("ops/x.c", "#pragma omp parallel for reduction(+ : sum)"),
        ("kernels/x.c", "p = malloc(3);"),
        ("core/x.c", "exit(1);"),
        ("model/x.c", "abort();"),
        ("ops/x.c", 'printf("%d", 3);'),
        ("ops/x.c", 'fprintf(stderr, "x");'),
        ("gadgets/x.c", "int x;"),
    ],
)
def test_c_rules_can_fail(path, text):
    assert len(c_violations(path, text)) == 1


@pytest.mark.parametrize(
    "path, text",
    [
        ("python/ops_rows.c", '#include "ref/ref.h"\n#include <Python.h>'),
        ("distill/x.c", '#include "model/model.h"\n#include "kernels/kernels.h"\n#include "core/arena.h"'),
        ("hybridattn.h", '#include "distill/distill.h"\n#include "core/arena.h"'),
        ("core/blas.c", "#include <blis.h>\nbli_sgemm(a);"),
        ("core/openmp.c", "#include <omp.h>\nomp_set_num_threads(2);"),
        ("ops/x.c", '/* exit(1) */ // abort()\nfail("printf(%d)", 2); snprintf(b, 3, 0);'),
        ("core/x.c", "p = malloc(3); free(p);\n#pragma omp parallel"),
    ],
)
def test_c_rules_let_good_code_pass(path, text):
    assert c_violations(path, text) == []


def test_forbidden_compiler_flags():
    """-ffast-math flushes denormals process-wide, -march=native breaks the one binary for all machines."""
    flags = "|".join(["-ffast" + "-math", "-Ofast", "-march" + "=native"])
    builders = [ROOT / "setup.py", ROOT / "Makefile", ROOT / "tests/c/Makefile", *CSRC.rglob("*.[ch]")]
    for path in builders:
        code = re.sub(r"#(?! *(pragma|include|define)).*", "", path.read_text())
        assert not re.search(flags + r"|optimize\(.*fast-math", code), path
