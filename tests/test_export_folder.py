"""The folder of an export comes whole or not at all, and the command that makes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from export_models import hybrid

from hybridattn import errors
from hybridattn.cli.main import main
from hybridattn.export import folder
from hybridattn.files import OURS


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    model, out = hybrid(), tmp_path / "out"
    out.mkdir()
    model.export(out, "qwen3_5")  # an empty folder will do
    model.export(out, "qwen3_5", dtype="bfloat16")
    assert json.loads((out / folder.SHEET).read_text())["dtype"] == "bfloat16"
    (out / "notes.txt").write_text("mine")
    before = sorted(p.name for p in out.iterdir())
    with pytest.raises(errors.ExportError, match=r"holds notes.txt; allowed: .*--force"):
        model.export(out, "qwen3_5")
    assert sorted(p.name for p in out.iterdir()) == before
    model.export(out, "qwen3_5", force=True)
    assert not (out / "notes.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("sheet", ["[]", "{}", '{"files": 3}', "{", '{"files": [1, null]}'])
def test_a_damaged_sheet_owns_nothing(tmp_path, sheet):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / folder.SHEET).write_text(sheet)
    with pytest.raises(errors.ExportError, match=r"holds hybridattn_export\.json"):
        hybrid().export(tmp_path / "out", "qwen3_5")


def test_a_file_or_a_link_in_the_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        for force in (False, True):
            with pytest.raises(errors.ExportError, match="is not a folder"):
                hybrid().export(tmp_path / name, "qwen3_5", force=force)
    assert (tmp_path / "file").read_text() == "x" and not (tmp_path / "elsewhere").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), errors.ExportError("no")])
def test_what_ends_early_leaves_what_was_there(tmp_path, error, monkeypatch):
    model, out = hybrid(), tmp_path / "out"
    model.export(out, "qwen3_5")
    before = (out / "model.safetensors").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr("hybridattn.export.checkpoint.atomic_write", fail)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        model.export(out, "qwen3_5", dtype="bfloat16")
    assert (out / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_killed_export_leaves_no_folder_of_that_name(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import tiny
from hybridattn.export import checkpoint
checkpoint.atomic_write = lambda *_: os.kill(os.getpid(), {int(signal.SIGKILL)})
tiny.teacher().to_probe({{"kind": "gated_delta"}}).to_hybrid([1]).export({str(tmp_path / "out")!r}, "qwen3_5")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert all(p.name.startswith(OURS) for p in tmp_path.iterdir())
    hybrid().export(tmp_path / "out", "qwen3_5")


def run_command(capsys, *arguments):
    code = main(["export", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command(tmp_path, capsys):
    hybrid().save_pretrained(tmp_path / "hybrid")
    code, out, _ = run_command(capsys, tmp_path / "hybrid", "--list", "--json")
    listed = json.loads(out)
    assert code == 0 and listed["qwen3_5"]["fits"] and not listed["sliding_window"]["fits"]
    assert "layers 0, 2: gated_delta has no place" in listed["sliding_window"]["reasons"][0]
    code, out, _ = run_command(capsys, tmp_path / "hybrid", "--list")
    assert code == 0 and "transformers" in out
    target = tmp_path / "out"
    code, out, _ = run_command(
        capsys, tmp_path / "hybrid", "--to", "qwen3_5", "--out", target, "--dtype", "bf16"
    )
    assert code == 0 and "constant error" in out and "bfloat16" in out
    (target / "mine").write_text("x")
    arguments = (tmp_path / "hybrid", "--to", "qwen3_5", "--out", target)
    code, _, err = run_command(capsys, *arguments)
    assert code == 1 and "--force" in err
    assert run_command(capsys, *arguments, "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "qwen3_5"], "--to and --out"),
        (["--to", "onnx", "--out", "x"], "layout is 'onnx'"),
        (["--to", "sliding_window", "--out", "x"], "layout sliding_window does not hold this model"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, arguments, says, monkeypatch):
    hybrid().save_pretrained(tmp_path / "hybrid")
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command(capsys, "hybrid", *arguments)
    assert code == 1 and says in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["hybrid"]
