"""The package's table of contents: what it lists exists, is documented, and costs nothing until it is
used.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'attention'"):
        _ = hybridattn.attention


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hybridattn; print({'numpy', 'tokenizers', 'hybridattn._core'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_show_config():
    assert hybridattn.show_config()["version"] == hybridattn.__version__
