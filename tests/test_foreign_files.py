"""What is not ours stays, and a run's own files are checked and taken away."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from hybridattn.cli.main import main
from hybridattn.errors import DataError
from hybridattn.files import OURS
from hybridattn.locks import beside
from hybridattn.radlads import checkpoint

SMALL = ("--tokens", "64", "--seq-len", "32", "--batch-size", "1", "--mixer", "gated_delta", "--quiet")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    tiny.teacher(layers=2).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n\n".join([tiny.TEXT] * 10), encoding="utf-8")
    return folder


def align(inputs, out, *more):
    return main(
        [
            "align",
            str(inputs / "teacher"),
            "--text",
            str(inputs / "text.txt"),
            *SMALL,
            "--out",
            str(out),
            *more,
        ]
    )


@pytest.mark.parametrize("name", ["uv", "poetry", "Cargo", "probe"])
def test_names_of_other_programs_stay(inputs, tmp_path, name):
    (tmp_path / f"{name}.lock").write_text("version = 1\n")
    (tmp_path / f"{name}.checkpoint").mkdir()
    (tmp_path / f"{name}.checkpoint" / "notes.txt").write_text("mine")
    assert align(inputs, tmp_path / name) == 0
    assert (tmp_path / f"{name}.lock").read_text() == "version = 1\n"
    assert (tmp_path / f"{name}.checkpoint" / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(f"{OURS}*"))


def test_a_foreign_file_in_our_checkpoint_folder_stays(inputs, tmp_path):
    folder = beside(tmp_path / "probe", "checkpoint")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert align(inputs, tmp_path / "probe") == 0
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("held", ["thesis.tex", "model.safetensors", "config.json"])
def test_a_folder_of_something_else_is_refused(inputs, tmp_path, capsys, held):
    out = tmp_path / "project"
    out.mkdir()
    (out / held).write_text("{}")
    for command in (lambda *more: align(inputs, out, *more),
                    lambda *more: main(["run", "--demo", "--out", str(out), *more])):  # fmt: skip
        assert command() == 1
        assert f"holds what hybridattn did not make ({held})" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == [held]
    if held == "thesis.tex":
        assert align(inputs, out, "--force") == 0 and (out / held).read_text() == "{}"
        assert align(inputs, out) == 0  # now it holds a model of ours


def test_a_file_is_no_folder(inputs, tmp_path, capsys):
    (tmp_path / "out").write_text("a")
    assert align(inputs, tmp_path / "out") == 1
    assert "is a file; allowed: a folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run():
    teacher = tiny.teacher(layers=2)
    return teacher.to_probe(tiny.MIXERS[0]).to_hybrid([1]), teacher, tiny.text_data(seq_len=24)


def test_changed_results_are_noticed(tmp_path):
    from hybridattn.pipeline.store import Store

    store = Store(tmp_path)
    file = tmp_path / "probe" / "w"
    file.parent.mkdir()
    file.write_text("weights")
    store.save("align", "d", 1.0, {"x": 1}, ["probe"])
    assert Store(tmp_path).load("align", "d", ["probe"])["result"] == {"x": 1}
    (tmp_path / "probe" / "README").write_text("a user's own file beside it")
    assert Store(tmp_path).load("align", "d", ["probe"])
    file.write_text("Weights")
    with pytest.raises(DataError, match="probe/w: is not as stage 'align' wrote it"):
        Store(tmp_path).load("align", "d", ["probe"])
    file.unlink()
    assert Store(tmp_path).load("align", "d", ["probe"]) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:1000],
        lambda raw: b"",
        lambda raw: raw + b"\0",
        lambda raw: raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:],
    ],
    ids=["cut", "empty", "longer", "one bit"],
)
@pytest.mark.parametrize("folder", ["probe", "models/chosen"])
def test_a_damaged_model_of_a_run_is_noticed(tmp_path, folder, damage):
    from hybridattn.pipeline.store import Store

    tiny.teacher(layers=1).save_pretrained(tmp_path / folder)
    store = Store(tmp_path)
    store.save("align", "d", 1.0, {}, [folder])
    assert store.load("align", "d", [folder])
    file = tmp_path / folder / "model.safetensors"
    raw = file.read_bytes()
    file.write_bytes(damage(raw))
    with pytest.raises(DataError, match=f"{folder}/model.safetensors: is not as stage 'align' wrote it"):
        Store(tmp_path).load("align", "d", [folder])
    file.write_bytes(raw)
    assert Store(tmp_path).load("align", "d", [folder])


@pytest.mark.parametrize(
    "record",
    ["[]", "{", "[" * 100_000, '{"fingerprint": "d"}',
     '{"fingerprint": "d", "result": 3, "seconds": 1, "files": {}}'],
)  # fmt: skip
def test_records_are_checked(tmp_path, record):
    from hybridattn.pipeline.store import Store

    store = Store(tmp_path)
    store.path("align").parent.mkdir()
    store.path("align").write_text(record)
    assert store.load("align", "d") is None


def test_a_run_takes_away_only_what_it_made(tmp_path):
    from hybridattn.pipeline.store import PROGRESS, Store

    store = Store(tmp_path)
    store.claim()
    store.interrupted("align", "d", 1.0)
    checkpoint.save(
        store.checkpoint("align", "d"), {}, {"phase": 0, "step": 0}, {"a": np.zeros(1, np.float32)}
    )
    mine = [tmp_path / "checkpoints" / "epoch-40.pt", tmp_path / PROGRESS / "notes.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a week of training")
    store.clean()
    assert all(path.exists() for path in mine)
    assert [p.name for p in (tmp_path / PROGRESS).iterdir()] == ["notes.txt"]
    assert Path(tmp_path / ".hybridattn-run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/align/checkpoint.safetensors",  # a folder of that name is not ours
        f"{OURS}progress/epoch-40.pt",
        f"{OURS}progress/old/epoch-40.pt",
        f"{OURS}progress/teacher-hidden.npy",  # without the note that says what it is
        "checkpoints.seconds",
    ],
)
def test_a_run_that_ends_leaves_a_users_file(tmp_path, name):
    from hybridattn.pipeline.store import Store

    store = Store(tmp_path)
    store.claim()
    store.interrupted("align", "d", 1.0)
    mine = tmp_path / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("a week of training")
    store.clean()
    assert mine.read_text() == "a week of training"


UNIFORM = ("plan", "--uniform", "--layers", "1", "--num-layers", "4")


@pytest.mark.parametrize(
    "content",
    ["a file of mine", "{}", '{"format": 1}', '{"format": "pep-621"}', "[]", b"\xff\xfe", "[" * 3000],
)
def test_a_file_of_another_kind_is_not_written_over(tmp_path, content, capsys):
    mine = tmp_path / "notes.json"
    mine.write_bytes(content.encode() if isinstance(content, str) else content)
    before = mine.read_bytes()
    assert main([*UNIFORM, "--out", str(mine)]) == 1
    assert "is a file that hybridattn did not make" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_scores_are_not_even_begun_for_such_a_file(inputs, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    score = ["score", "nowhere", "--text", str(inputs / "text.txt"), "--out", str(tmp_path / "thesis.tex")]
    assert main(score) == 1 and "thesis.tex' is a file" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_plan_is_written_over_a_plan(tmp_path):
    out = tmp_path / "new" / "plan.json"
    assert main([*UNIFORM, "--out", str(out)]) == 0
    first = out.read_bytes()
    assert main(["plan", "--uniform", "--layers", "2", "--num-layers", "4", "--out", str(out)]) == 0
    assert out.read_bytes() != first
    out.write_bytes(b"")
    assert main([*UNIFORM, "--out", str(out)]) == 0 and out.read_bytes() == first
    assert main([*UNIFORM, "--out", str(tmp_path / "new")]) == 1
