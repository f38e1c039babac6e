"""The suite of docs/testing.md, run as it is written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybridattn import testing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        name = block.splitlines()[0].removeprefix("# ")
        (folder / name).write_text(block, encoding="utf-8")
    return folder


def run(folder, *options):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "hybridattn.testing.plugin", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_it_passes_and_notices(suite):
    first = run(suite, "-k", "recipe")
    assert first.returncode == 1 and first.stdout.count("has no figures of this test yet") >= 2, first.stdout
    made = run(suite, "--hybrid-update")
    assert made.returncode == 0, made.stdout
    assert made.stdout.count("hybridattn: wrote") == 2
    again = run(suite, "-k", "recipe")
    assert again.returncode == 0, again.stdout
    code = (suite / "group.py").read_text(encoding="utf-8")
    (suite / "group.py").write_text(code.replace("dy.T @ s}", "2 * dy.T @ s}"), encoding="utf-8")
    wrong = run(suite, "-k", "gradients or (recipe and decay)")
    assert "gradients: the gradient of layers.1.group_decay.o.weight" in wrong.stdout, wrong.stdout
    assert "\nE           losses moved at " in wrong.stdout or "losses moved at " in wrong.stdout


@pytest.mark.parametrize("checks", [testing.MIXER_CHECKS, testing.SELECTOR_CHECKS], ids=["mixer", "selector"])
def test_the_page_names_every_check(checks):
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in checks if f"`{name}`" not in text] == []
