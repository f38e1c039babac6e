"""Finding a compiler and BLIS, and what tests/setup.sh says when something is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import find_blis  # noqa: E402


def program(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A PATH with nothing in it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def test_another_compiler_will_do(bare, monkeypatch):
    monkeypatch.setattr(find_blis.sysconfig, "get_config_var", lambda name: "cc -pthread")
    assert find_blis.compiler() == ["cc", "-pthread"]  # named in the error when there is none at all
    program(bare / "clang", "")
    assert find_blis.compiler() == ["clang"]
    program(bare / "gcc", "")
    assert find_blis.compiler() == ["gcc"]
    program(bare / "cc", "")
    assert find_blis.compiler() == ["cc", "-pthread"]
    monkeypatch.setenv("CC", "ccache mycc")
    assert find_blis.compiler() == ["ccache", "mycc"]


def ask(cc, **more):
    """What find_blis.py says when CC is `cc`: exit status and message."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "find_blis.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "CC": cc, **more},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("prefix", [None, "/nonexistent"])
def test_a_missing_compiler_is_not_taken_for_a_missing_blis(prefix):
    more = {"HYBRIDATTN_BLIS_PREFIX": prefix} if prefix else {}
    status, said = ask("/nonexistent/cc", **more)
    assert status == 1
    assert said.startswith("The C compiler /nonexistent/cc was not found") and "BLIS" not in said
    assert "gcc" in said and "CC=" in said


def test_a_compiler_that_fails_is_quoted(tmp_path):
    program(tmp_path / "cc", "echo 'cc: cannot find -lgomp' >&2; exit 1")
    status, said = ask(str(tmp_path / "cc"))
    assert status == 1 and "cc: cannot find -lgomp" in said and "BLIS" not in said


def test_a_wrong_prefix_is_named():
    if shutil.which(find_blis.compiler()[0]) is None:
        pytest.skip("needs a C compiler")
    status, said = ask(" ".join(find_blis.compiler()), HYBRIDATTN_BLIS_PREFIX="/nonexistent")
    assert status == 1 and said.startswith("HYBRIDATTN_BLIS_PREFIX=/nonexistent: no BLIS there that links")


@pytest.fixture
def project(tmp_path):
    """setup.sh in a folder of its own with stand-ins: BLIS is there, python makes a .venv with its pip."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("setup.sh needs bash")
    for name in ("tests", "bin"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "tests" / "setup.sh", tmp_path / "tests")
    (tmp_path / "find_blis.py").write_text("")
    program(tmp_path / "bin" / "gcc", "exit 0")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    python(tmp_path / "bin" / "python3", tmp_path, "3.12")

    def run():
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [bash, "tests/setup.sh", "venv", "test"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PATH": path, "HOME": str(tmp_path)},
        )

    return tmp_path, run


def python(path, folder, version, pip="exit 0"):
    """A stand-in for a Python interpreter of a version, whose `-m venv` makes another one."""
    program(
        path,
        f"""
case "$*" in
*get_path*) echo {folder}/include ;;
*'print("%d.%d"'*) echo {version} ;;
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo {version} >> made ;;
"-m pip"*) {pip} ;;
esac""",
    )


def test_a_venv_of_another_python_is_made_again(project):
    folder, run = project
    for wanted in ("3.12", "3.12", "3.13"):
        python(folder / "bin" / "python3", folder, wanted)
        done = run()
        assert done.returncode == 0, done.stderr
    assert (folder / "made").read_text().split() == ["3.12", "3.13"]
    assert "creating .venv with Python 3.13 (it was made with 3.12)" in done.stdout


@pytest.mark.parametrize(
    "said, message",
    [
        (
            "ERROR: No matching distribution found for numpy",
            "pip cannot reach the Python package index. Go online",
        ),
        ("error: command gcc failed", "failed; the reason is above"),
    ],
)
def test_a_failing_pip_is_explained(project, said, message):
    folder, run = project
    python(folder / "bin" / "python3", folder, "3.12", pip=f"echo '{said}' >&2; exit 1")
    done = run()
    assert done.returncode == 1 and said in done.stderr and message in done.stderr


def test_missing_packages_come_with_the_whole_command(project):
    folder, run = project
    (folder / "include" / "Python.h").unlink()
    program(folder / "bin" / "apt-get", "exit 1")
    program(folder / "bin" / "sudo", "exit 1")
    program(folder / "bin" / "id", "echo 1000")
    done = run()
    assert done.returncode == 1
    assert "sudo apt-get update && sudo apt-get install python3-dev" in done.stderr


def test_a_free_threaded_python_is_refused_by_name():
    """Before anything is looked for or built."""
    code = (
        "import runpy, sys, sysconfig; sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1; "
        "sys.argv = ['setup.py', '--version']; runpy.run_path('setup.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "free-threaded CPython" in done.stderr
    assert f"allowed: the ordinary python{sys.version_info.major}.{sys.version_info.minor}" in done.stderr
