"""What is not ours stays, what is damaged is noticed, and a stop that was asked for comes."""

import errno
import gc
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tiny

from hybridattn import radlads, stop
from hybridattn.cli.main import main
from hybridattn.errors import CheckpointError, DataError
from hybridattn.files import OURS, atomic_open, atomic_write
from hybridattn.locks import beside
from hybridattn.radlads import checkpoint
from hybridattn.radlads.teacher import open_cache, remove_cache

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


# --- atomic files ---


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda n: "known")
    (tmp_path / f"{OURS}known.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "plan.json", "{}")
    assert victim.read_text() == "precious" and not (tmp_path / "plan.json").exists()


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


# --- checkpoints ---


def train(folder, start, teacher, data, **more):
    hybrid = start.copy()
    options = dict(lr_mixers=1e-3, lr_rest=1e-3, progress=False, checkpoint=folder, checkpoint_last=False)
    radlads.distill(hybrid, teacher, data, 6, 2, **{**options, **more})
    return {name: array.tobytes() for name, array in tiny.weights(hybrid).items()}


@pytest.fixture(scope="module")
def run():
    teacher = tiny.teacher(layers=2)
    return teacher.to_probe(tiny.MIXERS[0]).to_hybrid([1]), teacher, tiny.text_data(seq_len=24)


def test_no_flipped_bit_goes_on_to_other_weights(tmp_path, run):
    want = train(tmp_path, *run, checkpoint_steps=4)
    file = tmp_path / checkpoint.FILE_NAME
    raw = file.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 9, 40, *rng.integers(8, len(raw), 40)]:  # the header, too
        damaged = bytearray(raw)
        damaged[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: "):
            train(tmp_path, *run)
    file.write_bytes(raw)
    assert train(tmp_path, *run) == want


def test_the_checkpoint_before_a_damaged_one_serves(tmp_path, run):
    newest, previous = checkpoint.generations(tmp_path)
    want = train(tmp_path, *run, checkpoint_steps=2)
    newest.replace(previous)
    newest.write_bytes(previous.read_bytes()[:-1])
    with pytest.warns(
        RuntimeWarning, match=r"checkpoint\.safetensors: not a whole checkpoint.*going on from"
    ):
        assert train(tmp_path, *run) == want


@pytest.mark.parametrize(
    "position",
    [{"phase": 0, "step": -1}, {"phase": 0, "step": 99}, {"phase": 3, "step": 1}, {"phase": 0.0, "step": 1},
     {"phase": 0, "step": True}, {"phase": 0}, [0, 1], {"phase": 0, "step": "2"}],
)  # fmt: skip
def test_positions_are_checked(tmp_path, run, position, monkeypatch):
    train(tmp_path, *run, checkpoint_steps=4)
    file = tmp_path / checkpoint.FILE_NAME
    raw = file.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:end])
    texts = header["__metadata__"]
    del texts["checksum"]
    texts["position"] = json.dumps(position)
    texts["checksum"] = checkpoint._text_checksum(texts)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + raw[end:])
    with pytest.raises(CheckpointError, match=r"step|phase|no run and position"):
        train(tmp_path, *run)


# --- the teacher's cache ---


def fill(path, teacher, data):
    return np.array(open_cache(path, teacher, data.tokens, data.windows, progress=False))


def test_damaged_states_are_made_again(tmp_path, run):
    _, teacher, data = run
    path = tmp_path / "c.npy"
    want = fill(path, teacher, data)
    raw = bytearray(path.read_bytes())
    raw[len(raw) - want.nbytes + 5] ^= 0x40  # in a state that is read
    path.write_bytes(raw)
    assert np.array_equal(fill(path, teacher, data), want)


@pytest.mark.parametrize("note", ["[]", "{", "[" * 100_000, '{"format": 1}', "null"])
def test_a_note_that_is_no_note_is_refused(tmp_path, run, note):
    _, teacher, data = run
    fill(tmp_path / "c.npy", teacher, data)
    (tmp_path / "c.npy.json").write_text(note)
    with pytest.raises(DataError, match="does not say that it is a teacher cache"):
        fill(tmp_path / "c.npy", teacher, data)
    remove_cache(tmp_path / "c.npy")
    assert (tmp_path / "c.npy").exists()


@pytest.mark.parametrize("sums", [None, 3, ["x"] * 999, [1], [["x"]], {"a": 1}])
def test_sums_of_a_note_are_checked(tmp_path, run, sums):
    _, teacher, data = run
    want = fill(tmp_path / "c.npy", teacher, data)
    note = tmp_path / "c.npy.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"sums": sums}))
    assert np.array_equal(fill(tmp_path / "c.npy", teacher, data), want)


def test_a_full_disk_is_an_oserror(tmp_path, run, monkeypatch):
    """The room is asked for before the file is mapped; without it nothing is left behind."""

    def full(descriptor, offset, size):
        assert size > 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    _, teacher, data = run
    with pytest.raises(OSError, match=r"the teacher cache takes [\d,]+ bytes"):
        fill(tmp_path / "c.npy", teacher, data)
    assert not (tmp_path / "c.npy").exists()


# --- signals ---


class Thing:
    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


def in_weakref(act):
    thing = Thing(lambda: None)
    kept = weakref.ref(thing, lambda _: act())
    del thing
    return kept


def in_gc(act):
    gc.callbacks.append(lambda phase, info: act())
    try:
        gc.collect()
    finally:
        gc.callbacks.pop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the second signal in gc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "place", [in_weakref, in_gc, Thing, lambda act: act()], ids=["weakref", "gc", "del", "plain"]
)
def test_a_signal_in_a_callback_is_not_lost(run, monkeypatch, place, number):
    from hybridattn.radlads import loop

    _, teacher, data = run
    steps, before = (
        [],
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler),
    )

    class Bar(loop.tqdm):
        def set_postfix(self, *args, **kwargs):
            steps.append(1)
            if len(steps) == 3:
                place(lambda: os.kill(os.getpid(), number))

    monkeypatch.setattr(loop, "tqdm", Bar)
    try:
        with pytest.raises(KeyboardInterrupt), stop.on_signals():
            radlads.align(teacher, tiny.MIXERS[0], data, steps=40, batch_size=2, progress=False)
    finally:
        signal.signal(number, before)
    assert len(steps) <= 4
    stop.check()  # nothing is left over


def test_a_second_signal_comes_at_once():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), stop.on_signals("SIGTERM"):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the second one was not raised")
    finally:
        signal.signal(signal.SIGTERM, before)
    stop.check()


def test_other_handlers_stay_theirs():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]


def test_a_stop_ends_another_program_too():
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), stop.on_signals("SIGTERM"):
            timer.start()
            began = time.monotonic()
            stop.run(["sleep", "30"])
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - began < 10


# --- a run's own files ---


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
