"""pyproject.toml names the CPythons and the lower bounds that a run of benchmarks/wheels.py has tried."""

import json
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

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
