"""Wheels: pyproject.toml names what benchmarks/results/wheels.json says was tried; what is refused."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import hybridattn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "wheels")]
import make as make_wheels  # noqa: E402

import wheels as wheels_table  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "wheels.json").read_text())
ROWS = {found["python"]: {row["packages"]: row for row in found["rows"]} for found in RESULTS["pythons"]}
BOUNDS = {
    need.name: next(Version(part.version) for part in need.specifier if part.operator == ">=")
    for need in map(Requirement, wheels_table.requirements())
}


def test_every_cpython_that_is_named_was_tried():
    """The classifiers, cibuildwheel's list and the table name the same ones, tried on bare machines."""
    tags = PROJECT["tool"]["cibuildwheel"]["build"]
    named = make_wheels.supported()
    assert list(ROWS) == named == [f"3.{tag[3:-2]}" for tag in tags]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"
    for found in RESULTS["pythons"]:
        assert found["bare"] and re.search(r"-manylinux_2_\d+_x86_64\.whl$", found["wheel"])
        assert found["wheel"].removesuffix(".whl").split("-")[-1] in found["auditwheel"]


def test_every_row_works_or_there_is_no_numpy_for_it():
    for rows in ROWS.values():
        assert {"oldest", "newest"} <= {name for name, row in rows.items() if row["result"] == "ok"}
        assert {row["result"] for row in rows.values()} <= {"ok", "no wheel"}


def test_every_lower_bound_was_tried():
    """The oldest CPython, which has wheels of the oldest packages, ran each one."""
    oldest = next(iter(ROWS.values()))["oldest"]["versions"]
    assert {name: Version(oldest[name]) for name in BOUNDS} == BOUNDS


def test_numpy_is_tried_from_the_bound_to_the_newest():
    tried = [Version(minor) for minor in wheels_table.NUMPY]
    assert tried[0] == BOUNDS["numpy"]
    newest = max(Version(rows["newest"]["versions"]["numpy"]) for rows in ROWS.values())
    assert (newest.major, newest.minor) == (tried[-1].major, tried[-1].minor)
    text = (ROOT / "csrc" / "python" / "api.h").read_text()
    [target] = re.findall(r"define NPY_TARGET_VERSION NPY_(\d+_\d+)_API_VERSION", text)
    assert Version(target.replace("_", ".")) <= BOUNDS["numpy"]


def test_the_docs_have_the_tables():
    assert wheels_table.tables(RESULTS) in (ROOT / "docs" / "versions.md").read_text()


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
    if "(static)" not in hybridattn.show_config()["blis_source"]:
        pytest.skip("BLIS is a shared library here")
    with open(hybridattn._core.__file__, "rb") as file:
        tags = elffile.ELFFile(file).get_section_by_name(".dynamic").iter_tags()
        assert not {tag.entry.d_tag for tag in tags} & set(make_wheels.SEARCH)
