"""Wheels for other machines: what is refused, and what the core of this installation must not hold."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hybridattn import _core

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "wheels"))
import make as make_wheels  # noqa: E402


def test_a_release_without_a_static_blis_is_refused(tmp_path):
    """Before anything is compiled."""
    code = (
        "import runpy, sys; sys.path.insert(0, '.'); import find_blis; "
        "find_blis.find = lambda: find_blis.Blis((), ('-lblis',), 'probe: -lblis (shared)'); "
        f"sys.argv = ['setup.py', '-q', 'build_ext', '--build-lib', {str(tmp_path)!r}]; "
        "runpy.run_path('setup.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HYBRIDATTN_RELEASE": "1"},
    )
    assert done.returncode == 1 and "BLIS is probe: -lblis (shared); allowed: a libblis.a" in done.stderr


def test_what_auditwheel_lets_pass_is_found(tmp_path):
    """A module with debug information and one with a search path, and a library that was copied in."""
    pytest.importorskip("elftools", reason="pyelftools is not installed")
    module = tmp_path / "module.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(module)]

    def wheel(*flags, name="demo/_core.so"):
        subprocess.run([*command, *flags], input="int f(void) { return 1; }", text=True, check=True)
        with zipfile.ZipFile(tmp_path / "demo.whl", "w") as archive:
            archive.write(module, name)
        return tmp_path / "demo.whl"

    assert make_wheels.leftovers(wheel("-g0")) == make_wheels.grafted(wheel("-g0")) == []
    assert "demo/_core.so: .debug_info" in make_wheels.leftovers(wheel("-g"))
    assert make_wheels.leftovers(wheel("-g0", "-Wl,-rpath,/x")) == ["demo/_core.so: DT_RUNPATH"]
    assert make_wheels.grafted(wheel("-g0", name="demo.libs/libblis.so")) == ["demo.libs/libblis.so"]


def test_the_module_names_no_folder_of_python(tmp_path):
    """Python's own linker command may hold one; with a shared BLIS ours may."""
    elffile = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed")
    if "(static)" not in _core.show_config()["blis_source"]:
        pytest.skip("BLIS is a shared library here")
    with open(_core.__file__, "rb") as file:
        tags = elffile.ELFFile(file).get_section_by_name(".dynamic").iter_tags()
        assert not {tag.entry.d_tag for tag in tags} & set(make_wheels.SEARCH)
