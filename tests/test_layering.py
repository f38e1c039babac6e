"""The arrows of the Python code point down, and every outside dependency has one home; no file is too long.

ROOMS is one ordered list, without circles between files. The C code has its own list in test_layering_c.py.

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
MAX_LINES = 350
# Tables of cases, which grow by a line a case
TABLES_OF_CASES = {"tests/cases.py", "tests/tokenizer_cases.py", "benchmarks/variant_cases.py"}
MOST_CASES = 600  # lines of one of those

# The rooms of the Python package, in order: a file may import from its own room and from rooms above it in
# this list, never from below. Imports for types and inside functions count.
ROOMS = [
    "lazy", "errors", "checks", "reading", "signatures", "stop", "files", "locks", "stats", "compute",
    "distributed",  # ranks over MPI
    "charts",  # how they look
    "results",  # what results of all rooms share
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
# Inside a function only these, which may be absent, are imported, and what a comment `# slow: ...` or
# `# here: ...` on the line gives a reason for; everything else stands at the top of its file.
OPTIONAL = {
    "datasets",
    "gguf",
    "huggingface_hub",
    "lm_eval",
    "matplotlib",
    "mpi4py",
    "pandas",
    "pyarrow",
    "scipy",
    "shtab",
    "sklearn",
}
# Model.export is the one method that reaches further down: it stands on a model so that users find it
BY_NAME = {"model.model"}
# outside packages with one home; torch is for benchmarks and tests
HOMES = {
    "gguf": {"formats.gguf", "formats.gguf_header", "export"},
    "datasets": {"evaluate.glue"},
    "huggingface_hub": {"data.hub"},
    "lm_eval": {"evaluate.lm_eval", "evaluate.lm_eval_command"},
    "matplotlib": {"charts.figure", "report.plots"},
    "scipy": {"evaluate.glue", "stats"},
    "sklearn": {"evaluate.glue"},
    "jinja2": {"data.chat", "report.html"},
    "mpi4py": {"distributed"},
    "pytest": {"testing.plugin"},
    "tokenizers": {
        "data.tokenizer",
        "data.tokenizer_folder",
        "data.tokenizer_json",
        "data.tokenizer_settings",
        "data.old_tokenizer_files",
        "formats.gguf_tokenizer",
        "testing.models",
    },
    "torch": {"export.modelling"},  # read as text and copied, never imported
    "transformers": {"export.modelling"},
}


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
    """Absolute names that `module` imports anywhere in its text, for types, inside functions and by
    `import_module` too.
    """
    here = ["hybridattn", *module.split(".")]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (1 if is_package and node.level else 0)
            base = here[: len(here) - up] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (n.value for n in node.args if isinstance(n, ast.Constant) and module not in BY_NAME)


def hidden_imports(text: str) -> Iterator[str]:
    """Imports inside functions that neither keep an optional package out nor say why they are slow."""
    lines = text.splitlines()
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                plain = isinstance(node, ast.Import)
                names = [alias.name for alias in node.names] if plain else [node.module or ""]
                outside = plain or not node.level
                optional = outside and all(name.split(".")[0] in OPTIONAL for name in names)
                if not optional and not re.search("# (slow|here): ", lines[node.lineno - 1]):
                    yield ast.unparse(node)


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
        found += [f"{name}: imports inside a function: {line}" for line in hidden_imports(text)]
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
        {"select.plan": "if True:\n    from ..report import plots", "report": "", "report.plots": ""},
        {"report.html": "def f():\n    from .document import write", "report.document": ""},
        {"model.base": "class A:\n    def f(self):\n        import numpy as np"},
        {"families.llama": "from typing import TYPE_CHECKING as T\nif T:\n    from ..model.base import Model",
         "model.base": ""},
        {"model.a": "from .b import x", "model.b": "from . import c", "model.c": "import hybridattn.model.a",
         "model": ""},
        {"model.plan": "def f():\n    return import_module('hybridattn.report').f()", "report": ""},
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
        "report.plots": "def draw():\n    import matplotlib.pyplot",
        "data.chat": "def f():\n    from .tokens import T  # slow: 0.2 s that few need",
        "data.tokens": "",
    }) == []  # fmt: skip


def test_few_modules_lie_at_the_top():
    """A newcomer sees rooms, not a heap: at most 12 modules beside them."""
    assert len(list((ROOT / "hybridattn").glob("*.py"))) <= 12


def source_files() -> list[Path]:
    found = [p for name in ("csrc", "hybridattn", "tests", "benchmarks") for p in (ROOT / name).rglob("*")]
    return sorted(p for p in found if p.suffix in {".c", ".h", ".py"})


def test_size_budget():
    """A file above the budget holds more than one idea: split it."""
    sizes = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in source_files()}
    assert sizes  # the walk found the sources
    assert set(sizes) >= TABLES_OF_CASES, "a file that is no longer there"
    limits = {name: MOST_CASES if name in TABLES_OF_CASES else MAX_LINES for name in sizes}
    assert {name: n for name, n in sizes.items() if n > limits[name]} == {}
