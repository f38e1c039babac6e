"""The arrows of the C code point down, every outside dependency has one home, and arguments are few.

    core < kernels < ops < mixers < model < distill < python; ref serves tests

The rules are the tables below; the checks read text only, so they run without building anything. Each rule is
also given a snippet that breaks it, to prove that it can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_layering import circles

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"

# A file may include from its own room and from rooms before it in this list, never from behind.
ROOMS = ["core", "kernels", "ops", "mixers", "model", "distill", "python"]
MAY_INCLUDE = {room: set(ROOMS[: i + 1]) for i, room in enumerate(ROOMS)}
MAY_INCLUDE["ref"] = {"core", "ref"}  # the naive twins stand apart
# hybridattn.h, the public header, gathers the library for C programs; only what stands on top includes it
MAY_INCLUDE["api"] = {"core", "ops", "mixers", "model", "distill"}
MAY_INCLUDE["python"] |= {"api"}

MOST_ARGUMENTS = 8

# (pattern in the code, where it is allowed as a regular expression on the path, what to say)
ONLY_IN = [
    (r'#\s*include\s*[<"](Python\.h|numpy/)', r"python/", "Python.h and NumPy belong in csrc/python"),
    (r'#\s*include\s*[<"]ref/', r"ref/|python/ops_", "ref/ serves tests, through python/ops_*"),
    (r'#\s*include\s*[<"](blis/)?blis\.h', r"core/blas(_kernels)?\.c", "blis.h belongs in core/blas*.c"),
    (r"\bbli_\w+", r"core/blas(_kernels)?\.c", "BLIS is called in core/blas*.c"),
    (r'#\s*include\s*[<"]omp\.h', r"core/openmp\.c", "omp.h belongs in core/openmp.c"),
    (r"\bomp_\w+\s*\(", r"core/openmp\.c", "the OpenMP runtime is called in core/openmp.c"),
    (r'#\s*pragma\s+omp|_Pragma\s*\(\s*"omp', r"(core|ops|mixers|model|distill)/", "no OpenMP here"),
    (r"#\s*pragma\s+omp\s+(?!parallel\b(?![^\n]*\b(reduction|guided|runtime|ordered|lastprivate|sections)\b))",
     r"(?!)", "core/openmp.c runs parallel regions, and static and dynamic loops that are one"),
    (r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|mmap|free|alloca)\s*\(", r"(?!kernels/)",
     "kernels allocate nothing"),
    (r"\b_exit\s*\(", r"core/blas_kernels\.c", "only a child process that tries BLIS ends"),
    (r"\b(exit|abort|printf|fprintf|vprintf|vfprintf|puts|putchar|perror)\s*\(", r"(?!)",
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


def included(path: str, text: str) -> Iterator[tuple[str, str]]:
    """(the name in quotes, its path below csrc/) of every file of the project that `path` includes."""
    for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', without_comments(text, strings=True), re.M):
        beside = (Path(path).parent / name).as_posix()
        yield name, beside if (CSRC / beside).is_file() else name


def c_violations(path: str, text: str) -> list[str]:
    """What the file `path` (relative to csrc/) does against the rules, one line each."""
    found = []
    layer = layer_of(path)
    if layer not in MAY_INCLUDE:
        return [f"{path}: no such layer; known are {', '.join(sorted(MAY_INCLUDE))}"]
    code = without_comments(text, strings=True)
    for name, target in included(path, text):
        if layer_of(target) not in MAY_INCLUDE[layer] and not name.startswith(("ref/", "blis")):
            found.append(f"{path}: includes {name}, which is not below {layer}")
    bare = without_comments(text, strings=False)
    for pattern, where, message in ONLY_IN:
        # an include or a _Pragma names its subject in quotes
        hit = re.search(pattern, code if "include" in pattern or "pragma" in pattern else bare)
        if hit and not re.match(where, path):
            found.append(f"{path}: {hit.group().strip()}: {message}")
    return found


def stem(path: str) -> str:
    """x.c, x.inc.c and x.h are one thing."""
    return re.sub(r"(\.inc)?\.[ch]$", "", path)


def c_circles(files: dict[str, str]) -> list[list[str]]:
    """Files (path -> text) that include each other, a source and its header taken together."""
    edges: dict[str, set[str]] = {stem(path): set() for path in files}
    for path, text in files.items():
        edges[stem(path)] |= {stem(target) for _, target in included(path, text)} & set(edges) - {stem(path)}
    return circles(edges)


def argument_lists(text: str) -> Iterator[tuple[str, list[str]]]:
    """(name, parameters) of every function and function pointer that a C text declares or defines."""
    code = without_comments(text, strings=False).replace("\\\n", "\n")
    pointer = r"\(\s*\*\s*(\w+)(?:\[\w*\])?\s*\)"
    # a parameter is a type and mostly a name; an argument of a call is an expression
    kind = r"(const\s+)?(struct\s+|unsigned\s+)?\w+[\s*]+((const|restrict)[\s*]+)*"
    parameter = kind + r"(\w+\s*(\[.*\])?|\(\*.*\).*)?"
    for match in re.finditer(rf"(?:{pointer}\s*|\b(\w+)\s*(?!{pointer}))\(", code):
        depth, parts = 1, [""]
        for char in code[match.end() :]:
            depth += (char in "([{") - (char in ")]}")
            if depth == 0:
                break
            if char == "," and depth == 1:
                parts.append("")
            else:
                parts[-1] += char
        if all(re.fullmatch(parameter, part.strip(), re.S) for part in parts):
            yield match[1] or match[2], [" ".join(part.split()) for part in parts]


def long_argument_lists(text: str) -> list[str]:
    """Functions with more than MOST_ARGUMENTS parameters: what belongs together wants a struct."""
    found = {name: len(parameters) for name, parameters in argument_lists(text)}
    return [f"{name} takes {count} arguments" for name, count in found.items() if count > MOST_ARGUMENTS]


def without_a_comment(text: str) -> list[str]:
    """Functions that a header declares without a comment on the line above, which gives shapes."""
    others = "typedef|#|return|static|INLINE|extern"
    declared = re.finditer(rf"^(?!{others})\w[\w *]*?\b(\w+)\([^;{{}}]*\)[^;{{}}()]*;", text, re.M)
    return [m[1] for m in declared if not text[: m.start()].rstrip("\n").endswith("*/")]


@pytest.mark.parametrize("path", [path for path in c_files() if path.endswith(".h")])
def test_headers_say_what_functions_do(path):
    assert without_a_comment((CSRC / path).read_text()) == []


def test_a_function_without_a_comment_is_found():
    text = "/* y [n] of x [n] */\nvoid f(int n, const float *x, float *y);\nha_status g(int n,\n float *y);\n"
    assert without_a_comment(text) == ["g"]
    assert without_a_comment(text.replace("ha_status", "/* y [n] */\nha_status")) == []


def test_c_files_go_in_one_direction():
    assert c_circles({path: (CSRC / path).read_text() for path in c_files()}) == []


@pytest.mark.parametrize(
    "files",
    [
        {"ops/a.h": '#include "ops/b.h"', "ops/b.h": '#include "ops/a.h"'},
        {"ops/a.c": '#include "ops/b.h"', "ops/a.h": "", "ops/b.h": "", "ops/b.c": '#include "ops/a.h"'},
        {
            "python/a.c": '#include "b.h"\n#include "python/b.h"',
            "python/b.h": '#include "python/c.h"',
            "python/c.inc.c": '#include "python/a.h"',
            "python/a.h": "",
        },
    ],
)
def test_c_circles_are_found(files):
    assert len(c_circles(files)) == 1


def test_c_files_may_share_a_header():
    assert c_circles({
        "ops/a.c": '#include "ops/a.h"\n#include "ops/b.h"',
        "ops/a.h": "",
        "ops/b.c": '#include "ops/b.h"',
        "ops/b.h": '/* #include "ops/a.h" */',
    }) == []  # fmt: skip


@pytest.mark.parametrize("path", c_files())
def test_c_argument_lists_are_short(path):
    assert long_argument_lists((CSRC / path).read_text()) == []


NINE = "int a, int b, const float *c, float *d, size_t e, ha_rows f, const char *const *g, void *h, int i[4]"


@pytest.mark.parametrize(
    "text",
    [
        f"void f({NINE})\n{{\n}}",
        "ha_status f(  // why\n" + NINE.replace(", ", ",\n") + ");",
        f"typedef struct {{\n    void (*kernel[HA_DTYPES])({NINE});\n}} table;",
        f"#define MAKE(name) \\\n    static void name({NINE}) \\\n    {{ \\\n    }}",
        f"static inline ptrdiff_t f({NINE.replace('void *h', 'int (*h)(int, int)')}) {{",
    ],
)
def test_long_argument_lists_are_found(text):
    assert len(long_argument_lists(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"void f({NINE.rpartition(',')[0]});",
        "void f(void);",
        "int x = f(a, b, c, d, e, 6, g + 1, &h, i[4], *j);",
        'ha_fail(HA_BAD, "%d %d", a, b, c, d, e, f, g, h);',
        f"/* void f({NINE}) */",
        "static const int table[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};",
    ],
)
def test_short_argument_lists_and_calls_pass(text):
    assert long_argument_lists(text) == []


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
