"""The arrows of the code point down, and every outside dependency has one home.

    C       kernels <- ops <- mixers <- model <- distill <- python; core serves all, ref serves tests
    Python  ROOMS, one ordered list, without circles between files

The rules are the tables below; the checks read text only, so they run without building anything. Each rule
is also given a snippet that breaks it, to prove that it can fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
MAX_LINES = 350
# Tables of cases, which grow by a line a case, and below them what holds more than one idea still; no file
# joins the second list, and a file that is split leaves it.
TABLES_OF_CASES = {
    "tests/cases.py", "tests/tokenizer_cases.py", "tests/test_layering.py", "benchmarks/variant_cases.py",
}  # fmt: skip
STILL_TO_SPLIT = {
    *(
        f"tests/test_{name}.py"
        for name in (
            "cli", "export", "external_mixer", "families", "gguf", "nothing_lost", "ops", "pipeline",
            "selectors", "squad", "storage", "tasks", "tensor", "training", "twins", "weights",
        )
    ),
}  # fmt: skip
MOST_LINES = 600  # of those

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

# The rooms of the Python package, in order: a file may import from its own room and from rooms above it in
# this list, never from below. Imports for types and inside functions count.
ROOMS = [
    "lazy", "errors", "checks", "reading", "signatures", "files", "locks", "stop", "stats",
    "families",  # what a checkpoint of a family is
    "formats",  # bytes on disk
    "data",  # text in
    "diagnostics",  # prompts that ask for recall
    "model",  # the model a user holds
    "radlads",  # training
    "tasks",  # heads
    "select",  # scores and plans
    "evaluate",
    "export",  # other libraries' layouts
    "report",
    "pipeline",
    "testing",
    "cli", "__main__",
]  # fmt: skip
# known to every room: the C core, and the version in the package's table of contents
EVERYWHERE = {"_core", "__version__"}
# outside packages with one home; torch is for benchmarks and tests
HOMES = {
    "gguf": {"formats.gguf", "formats.gguf_header", "export"},
    "datasets": {"evaluate.glue"},
    "huggingface_hub": {"data.hub"},
    "lm_eval": {"evaluate.lm_eval"},
    "matplotlib": {"report.plots", "report.figure"},
    "scipy": {"evaluate.glue", "stats"},
    "sklearn": {"evaluate.glue"},
    "jinja2": {"data.chat"},
    "tokenizers": {
        "data.tokenizer",
        "data.tokenizer_folder",
        "data.tokenizer_json",
        "data.tokenizer_settings",
        "data.old_tokenizer_files",
        "formats.gguf_tokenizer",
    },
    "torch": {"export.modelling"},  # read as text and copied, never imported
    "transformers": {"export.modelling"},
}


# --- C ---


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


# --- Python ---


def python_modules() -> dict[str, str]:
    """Module name below hybridattn ("families.llama", "families" for its __init__) -> source text."""
    modules = {}
    for path in sorted((ROOT / "hybridattn").rglob("*.py")):
        parts = path.relative_to(ROOT / "hybridattn").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:  # the package's own __init__ is the table of contents: it may import everything
            modules[name] = path.read_text()
    return modules


def imports(module: str, text: str, is_package: bool) -> Iterator[str]:
    """Absolute names that `module` imports anywhere in its text, for types and inside functions too."""
    here = ["hybridattn", *module.split(".")]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (1 if is_package and node.level else 0)
            base = here[: len(here) - up] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def at_home(module: str, package: str) -> bool:
    """Whether `module` may import the outside package."""
    return package not in HOMES or any(f"{module}.".startswith(f"{home}.") for home in HOMES[package])


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Sets of files that reach each other (Tarjan's strongly connected components of two files or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(edges.get(name, ())):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def python_violations(modules: dict[str, str]) -> list[str]:
    """What the modules do against the rules, one line each."""
    found = []
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for name, text in modules.items():
        room = name.split(".")[0]
        if room not in ROOMS:
            found.append(f"{name}: no such room; known are {', '.join(ROOMS)}")
            continue
        is_package = any(other.startswith(name + ".") for other in modules)
        for target in imports(name, text, is_package):
            package, _, inside = target.partition(".")
            if package != "hybridattn":
                if not at_home(name, package):
                    found.append(f"{name}: imports {package}, which belongs in {sorted(HOMES[package])}")
                continue
            if inside.split(".")[0] in EVERYWHERE:
                continue
            while inside and inside not in modules:  # a name in a module, not a module
                inside = inside.rpartition(".")[0]
            if not inside:
                found.append(f"{name}: imports {target} from the table of contents, which knows all rooms")
            elif inside != name:
                edges[name].add(inside)
                if inside.split(".")[0] in ROOMS and ROOMS.index(inside.split(".")[0]) > ROOMS.index(room):
                    found.append(f"{name}: imports {inside}, which is a room further down")
    return found + [f"circle: {', '.join(group)}" for group in circles(edges)]


def test_python_layers():
    assert python_violations(python_modules()) == []


@pytest.mark.parametrize(
    "modules",
    [
        {"families.config": "from ..cli.main import main", "cli.main": ""},
        {"select.plan": "def f():\n    from ..report import plots", "report": "", "report.plots": ""},
        {"families.llama": "from typing import TYPE_CHECKING as T\nif T:\n    from ..model.base import Model",
         "model.base": ""},
        {"model.a": "from .b import x", "model.b": "from . import c", "model.c": "import hybridattn.model.a",
         "model": ""},
        {"data": "from .tokens import T", "data.tokens": "from . import Tokenizer"},
        {"model.base": "from .. import Plan"},
        {"model.base": "import torch"},
        {"report.html": "import matplotlib.pyplot as plt"},
        {"gadgets": "import os"},
    ],
)  # fmt: skip
def test_python_rules_can_fail(modules):
    assert len(python_violations(modules)) == 1


def test_python_rules_let_good_code_pass():
    assert python_violations({
        "cli.main": "from ..pipeline.execute import run\nfrom . import common",
        "cli.common": "from .. import __version__, _core",
        "cli": "",
        "pipeline.execute": "from .job import Job",
        "pipeline.job": "from ..model.base import Model\nfrom ..errors import DataError",
        "model.base": "from .plan import Plan",
        "model.plan": "from ..errors import PlanError",
        "errors": "",
        "report.plots": "import matplotlib",
    }) == []  # fmt: skip


def test_few_modules_lie_at_the_top():
    """A newcomer sees rooms, not a heap: at most 12 modules beside them."""
    assert len(list((ROOT / "hybridattn").glob("*.py"))) <= 12


# --- both ---


def source_files() -> list[Path]:
    found = [p for name in ("csrc", "hybridattn", "tests", "benchmarks") for p in (ROOT / name).rglob("*")]
    return sorted(p for p in found if p.suffix in {".c", ".h", ".py"})


def test_size_budget():
    """A file above the budget holds more than one idea: split it."""
    sizes = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in source_files()}
    assert sizes  # the walk found the sources
    excused = TABLES_OF_CASES | STILL_TO_SPLIT
    assert excused <= set(sizes), "a file that is no longer there"
    limits = {name: MOST_LINES if name in excused else MAX_LINES for name in sizes}
    assert {name: n for name, n in sizes.items() if n > limits[name]} == {}


def test_forbidden_compiler_flags():
    """-ffast-math flushes denormals process-wide, -march=native breaks the one binary for all machines."""
    flags = "|".join(["-ffast" + "-math", "-Ofast", "-march" + "=native"])
    builders = [ROOT / "setup.py", ROOT / "Makefile", ROOT / "tests/c/Makefile", *CSRC.rglob("*.[ch]")]
    for path in builders:
        code = re.sub(r"#(?! *(pragma|include|define)).*", "", path.read_text())
        assert not re.search(flags + r"|optimize\(.*fast-math", code), path
