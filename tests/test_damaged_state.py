"""Damaged checkpoints and teacher caches are noticed, and never go on to other weights."""

import errno
import json
import os
import struct

import numpy as np
import pytest
import tiny

from hybridattn import radlads
from hybridattn.errors import CheckpointError, DataError
from hybridattn.radlads import checkpoint
from hybridattn.radlads.teacher import open_cache, remove_cache


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


@pytest.mark.parametrize("where", [(os, "posix_fallocate"), (np.lib.format, "open_memmap")])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_oserror(tmp_path, run, monkeypatch, number, where):
    """The room is asked for before the file is mapped; without it nothing is left behind."""

    def full(*_, **__):
        raise OSError(number, "full")

    monkeypatch.setattr(*where, full)
    _, teacher, data = run
    with pytest.raises(OSError, match=r"the teacher cache takes [\d,]+ bytes") as caught:
        fill(tmp_path / "c.npy", teacher, data)
    assert caught.value.errno == number
    assert not (tmp_path / "c.npy").exists()


def test_a_limit_on_files_is_an_oserror(tmp_path, run):
    """As `ulimit -f` sets it; with the limit gone the cache is made."""
    resource = pytest.importorskip("resource")
    _, teacher, data = run
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: the teacher cache takes [\d,]+ bytes"):
            fill(tmp_path / "c.npy", teacher, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "c.npy").exists()
    assert np.isfinite(fill(tmp_path / "c.npy", teacher, data)).all()
