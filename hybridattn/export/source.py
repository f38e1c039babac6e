"""The Python files of a `remote_code` folder, joined from the parts in `modelling/`.

transformers loads a folder's code from the module that `auto_map` names. One file is what people can read
from top to bottom and copy beside other weights, so the parts become one.
"""

from __future__ import annotations

import ast
from importlib.resources import files as resources

from .. import __version__

CONFIGURATION, MODELLING = "configuration_hybridattn", "modelling_hybridattn"
AUTO_MAP = {
    "AutoConfig": f"{CONFIGURATION}.HybridAttnConfig",
    "AutoModel": f"{MODELLING}.HybridAttnModel",
    "AutoModelForCausalLM": f"{MODELLING}.HybridAttnForCausalLM",
}
_PARTS = ("recurrence", "tokens", "attention", "mixers", "model")  # each needs only those before it
_HEAD = '''"""Hybrids of softmax and linear attention for transformers, in plain PyTorch.

Written by hybridattn {version} (Apache-2.0) from its package's export/modelling/; every mixer it knows is in
here.
"""

from __future__ import annotations

'''


def files() -> dict[str, str]:
    """Text of the files by name."""
    configuration = _read("configuration")
    return {f"{CONFIGURATION}.py": configuration, f"{MODELLING}.py": _joined()}


def kinds() -> tuple[str, ...]:
    """The mixers that the modelling file has."""
    for node in ast.parse(_read("mixers")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MIXERS":
            assert isinstance(node.value, ast.Dict)
            return tuple(ast.literal_eval(key) for key in node.value.keys if key is not None)
    raise AssertionError("modelling/mixers.py defines MIXERS")


def _read(part: str) -> str:
    return (resources(__package__) / "modelling" / f"{part}.py").read_text(encoding="utf-8")


def _joined() -> str:
    """The parts as one module: their outside imports at the top, each part's docstring as a comment."""
    wanted: set[str] = set()
    bodies = []
    for part in _PARTS:
        text = _read(part)
        tree, start = ast.parse(text), 0
        for node in tree.body:
            if not isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_docstring(node):
                break
            start = node.end_lineno or start
            if isinstance(node, ast.ImportFrom) and node.level:
                if node.module == "configuration":
                    node.module = CONFIGURATION
                    wanted.add(ast.unparse(node))
            elif not isinstance(node, ast.Expr) and getattr(node, "module", "") != "__future__":
                wanted.add(ast.unparse(node))
        title = "\n".join(f"# {line}".rstrip() for line in (ast.get_docstring(tree) or "").splitlines())
        bodies.append(f"{title}\n\n" + "\n".join(text.splitlines()[start:]).strip("\n") + "\n")
    plain = sorted(line for line in wanted if line.startswith("import "))
    named = sorted(wanted - set(plain))
    return _HEAD.format(version=__version__) + "\n".join([*plain, *named]) + "\n\n\n" + "\n\n".join(bodies)


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
