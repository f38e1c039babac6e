"""Results that a run or a search keeps are believed only as they were written."""

import errno
import json
import os

import numpy as np
import pytest

from hybridattn.data.split import Texts, aligned_tokens, note_aligned
from hybridattn.errors import DataError
from hybridattn.files import atomic_write, sheet_checksum
from hybridattn.model.plan import Plan
from hybridattn.pipeline.store import Store
from hybridattn.select.candidates import Candidates


def flipped(path, seed):
    """The file with one bit turned over."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def test_a_record_with_a_flipped_bit_is_no_record(tmp_path):
    store = Store(tmp_path)
    result = {"kl": 0.123456789, "values": [1.5, 2.25], "by_length": {8: 1.0, 32: 2.0}}
    store.save("evaluate/chosen", "digest", 1.5, result)
    path = store.path("evaluate/chosen")
    whole = path.read_bytes()
    want = store.load("evaluate/chosen", "digest")
    assert want["result"]["by_length"] == {"8": 1.0, "32": 2.0}
    for seed in range(200):
        path.write_bytes(whole)
        flipped(path, seed)
        found = store.load("evaluate/chosen", "digest")
        assert found is None or found == want  # a space turned into a tab says the same
    path.write_text(json.dumps(json.loads(whole) | {"seconds": 2.5}))
    assert store.load("evaluate/chosen", "digest") is None


def test_a_candidate_with_a_flipped_bit_is_refused(tmp_path):
    values = np.array([0.1, 0.25, 1e-9])
    Candidates(tmp_path, "facts").put(1, 2, values, 1.0, 3.0)
    path = Candidates(tmp_path, "facts").path(1, 2)
    whole = path.read_bytes()
    for seed in range(200):
        path.write_bytes(whole)
        flipped(path, seed)
        try:
            found = Candidates(tmp_path, "facts").get(1, 2)
        except DataError as error:
            assert path.name in str(error)
        else:
            assert np.array_equal(found["per_sequence"], values)


def test_a_checksum_is_of_what_is_said():
    content = {"b": [1, 2.5], "a": {1: None}}
    again = json.loads(json.dumps({**content, "checksum": sheet_checksum(content)}, indent=3))
    assert sheet_checksum(again) == again["checksum"] == sheet_checksum(content)
    assert sheet_checksum({**content, "b": [1, 2.5000001]}) != sheet_checksum(content)


@pytest.mark.parametrize("tokens", [-5, 1.5, "5", None, True, float("inf"), [5], 10**39])
def test_a_note_of_aligned_text_is_checked(tmp_path, tokens):
    (tmp_path / "text.txt").write_text("the moon is a stone")
    texts = Texts(tmp_path / "text.txt")
    note_aligned(tmp_path, texts, 5)
    assert aligned_tokens(tmp_path, texts) == 5
    path = tmp_path / "align.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokens": tokens}))
    assert aligned_tokens(tmp_path, texts) in (0, 10**39)


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_an_error_of_a_writer_names_the_file_that_was_to_be(tmp_path, monkeypatch, call):
    def fails(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match=r"No space left on device: .*plan\.json"):
        Plan((1,), 2, "a").save(tmp_path / "plan.json")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    atomic_write(tmp_path / "plan.json", "{}")
