"""The package's table of contents: what it lists exists, is documented, and costs nothing until it is
used.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import hybridattn


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse(Path(hybridattn.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))  # if TYPE_CHECKING
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    listed = [alias.asname or alias.name for node in imports for alias in node.names]
    assert sorted([*listed, "__version__"]) == sorted(hybridattn.__all__)


@pytest.mark.parametrize("name", hybridattn.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(hybridattn, name)
    assert name in dir(hybridattn)
    assert isinstance(thing, str) or inspect.getdoc(thing)


@pytest.mark.parametrize("name", ["", *hybridattn._MODULES])
def test_public_modules_show_what_they_export_and_nothing_else(name):
    """Completion offers no helper that a module only uses; what it offers is there."""
    module = getattr(hybridattn, name) if name else hybridattn
    assert dir(module) == sorted(module.__all__)
    for each in dir(module):
        thing = getattr(module, each)
        assert not inspect.ismodule(thing) or name == "", f"{module.__name__}.{each}"
        home = (
            getattr(thing, "__module__", None) if inspect.isroutine(thing) or inspect.isclass(thing) else None
        )
        assert home is None or home.split(".")[0] in ("hybridattn", "collections"), (
            f"{module.__name__}.{each}"
        )


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'attention'"):
        _ = hybridattn.attention


def test_old_names_serve_with_a_warning():
    from hybridattn import diagnostics, rankings

    with pytest.warns(DeprecationWarning, match=r"diagnostics\.TASKS is now hybridattn\.diagnostics\.KINDS"):
        assert diagnostics.TASKS is diagnostics.KINDS
    with pytest.warns(DeprecationWarning, match="is now hybridattn.select.rankings.paired_difference"):
        assert rankings.bootstrap is rankings.paired_difference
    with pytest.warns(DeprecationWarning, match="make: task is now kind"):
        made = diagnostics.make(task="needle", tokenizer=tiny.tokenizer(), n=1, seq_len=300)
    assert made.name == "needle" and {"TASKS", "bootstrap"}.isdisjoint([*dir(diagnostics), *dir(rankings)])


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hybridattn; print({'numpy', 'tokenizers', 'hybridattn._core'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_show_config():
    assert hybridattn.show_config()["version"] == hybridattn.__version__
