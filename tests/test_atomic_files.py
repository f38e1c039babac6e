"""Files are whole or not there, whoever else writes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny

from hybridattn.files import OURS, atomic_open, atomic_write


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
def test_a_planted_link_is_not_followed(tmp_path, monkeypatch, plant):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    plant(tmp_path / f"{OURS}known.tmp", victim)
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "plan.json", "{}")
    assert victim.read_text() == "precious" and not (tmp_path / "plan.json").exists()


def test_nothing_comes_to_be_where_a_planted_link_points(tmp_path, monkeypatch):
    """Neither a file that is not there yet nor one in a folder."""
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    (tmp_path / "folder").mkdir()
    for target in ("not-there", "folder"):
        link = tmp_path / f"{OURS}known.tmp"
        link.symlink_to(tmp_path / target)
        with pytest.raises(FileExistsError):
            atomic_write(tmp_path / "plan.json", "{}")
        assert link.is_symlink()
        link.unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"] and not list((tmp_path / "folder").iterdir())


def test_a_link_in_the_place_of_the_result_gives_way(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "plan.json").symlink_to(victim)
    atomic_write(tmp_path / "plan.json", "{}")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "plan.json").is_symlink() and (tmp_path / "plan.json").read_text() == "{}"


def test_threads_write_one_file_at_once(tmp_path):
    path, errors = tmp_path / "x", []

    def write(letter):
        try:
            for _ in range(20):
                atomic_write(path, letter * 5000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(c,)) for c in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        not errors and path.read_text() in {c * 5000 for c in "abcd"} and len(list(tmp_path.iterdir())) == 1
    )


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_are_kept(tmp_path, mode):
    path = tmp_path / "x"
    path.write_text("a")
    path.chmod(mode)
    atomic_write(path, "b")
    assert path.stat().st_mode & 0o777 == mode and path.read_text() == "b"


def test_temporaries_of_killed_runs_are_swept_away(tmp_path):
    """Old ones that nobody holds, and no others."""
    old, young, held = (tmp_path / f"{OURS}{name}.tmp" for name in ("old", "young", "held"))
    theirs = tmp_path / "theirs.tmp"
    for path in (old, young, theirs):
        path.write_text("x")
    for path in (old, theirs):
        os.utime(path, (1, 1))
    with atomic_open(tmp_path / "y") as file:
        [mine] = [p for p in tmp_path.glob(f"{OURS}*.tmp") if p != young]
        os.utime(mine, (1, 1))
        script = f"from hybridattn.files import atomic_write; atomic_write({str(tmp_path / 'z')!r}, '')"
        subprocess.run([sys.executable, "-c", script], check=True)
        assert mine.exists() and young.exists() and theirs.exists() and not old.exists()
        file.write(b"whole")
    assert (tmp_path / "y").read_bytes() == b"whole" and not held.exists()


@pytest.fixture(scope="module")
def run():
    teacher = tiny.teacher(layers=2)
    return teacher.to_probe(tiny.MIXERS[0]).to_hybrid([1]), teacher, tiny.text_data(seq_len=24)
