"""The teacher's stored states: the same training, filled once, reused when they fit."""

import threading
import time

import numpy as np
import pytest
import tiny

from hybridattn import radlads
from hybridattn.data.tokens import TokenData
from hybridattn.errors import DataError
from hybridattn.radlads import teacher as teacher_cache

pytestmark = pytest.mark.usefixtures("one_thread")


def distill_cached(data, path, teacher=None, **options):
    hybrid = tiny.teacher().to_probe(tiny.MIXERS[0]).to_hybrid([1])
    result = radlads.distill(
        hybrid,
        teacher or tiny.teacher(),
        data,
        steps=5,
        batch_size=2,
        cache_teacher=path,
        progress=False,
        **options,
    )
    return tiny.weights(hybrid), result.losses


def test_cached_teacher_equals_computed_teacher(tmp_path, data):
    computed, losses = distill_cached(data, None)
    for _ in range(2):  # filled, then reused
        cached, cached_losses = distill_cached(data, tmp_path / "hidden.npy")
        assert np.allclose(cached_losses, losses, rtol=1e-5)
        assert all(np.allclose(cached[name], computed[name], atol=1e-5) for name in computed)


def test_cache_is_reused_only_when_it_fits(tmp_path, monkeypatch, data):
    filled = []
    original = teacher_cache._fill
    monkeypatch.setattr(teacher_cache, "_fill", lambda *args: (filled.append(1), original(*args)))
    path = tmp_path / "hidden.npy"
    for change, count in (
        ({}, 1),
        ({}, 1),
        ({"teacher": tiny.teacher(seed=1)}, 2),
        ({"seed": 1}, 3),
        ({"seed": 1}, 3),
    ):
        distill_cached(data, path, **change)
        assert len(filled) == count
    path.write_bytes(path.read_bytes()[:-100])
    distill_cached(data, path, seed=1)
    assert len(filled) == 4


def test_an_interrupted_cache_goes_on(tmp_path, monkeypatch, data):
    teacher, windows = tiny.teacher(), data.windows
    monkeypatch.setattr(teacher_cache, "SLICE_TOKENS", 100)
    whole = teacher_cache.open_cache(tmp_path / "a.npy", teacher, data.tokens, windows, progress=False)
    calls = []
    forward = type(teacher).forward_windows

    def stop_later(self, tokens, some, out, segments):
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        forward(self, tokens, some, out, segments)

    monkeypatch.setattr(type(teacher), "forward_windows", stop_later)
    with pytest.raises(KeyboardInterrupt):
        teacher_cache.open_cache(tmp_path / "b.npy", teacher, data.tokens, windows, progress=False)
    again = teacher_cache.open_cache(tmp_path / "b.npy", teacher, data.tokens, windows, progress=False)
    assert np.array_equal(again, whole)
    assert sum(calls) - calls[2] == len(windows)  # what was filled before was not filled again


def test_two_runs_fill_a_cache_once(tmp_path, monkeypatch, data):
    teacher, filled, found = tiny.teacher(), [], []
    original = teacher_cache._fill

    def slowly(*args):
        filled.append(1)
        both.wait(timeout=60)  # the other run has come to the door
        original(*args)

    def run():
        if filled:
            both.wait(timeout=60)
        found.append(
            teacher_cache.open_cache(
                tmp_path / "hidden.npy", teacher, data.tokens, data.windows, progress=False
            )
        )

    both = threading.Barrier(2)
    monkeypatch.setattr(teacher_cache, "_fill", slowly)
    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    while not filled:
        time.sleep(0.01)
    threads[1].start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(filled) == 1 and np.array_equal(*found)


def test_a_cache_killed_at_its_start_is_made_anew(tmp_path, monkeypatch, data):
    def killed(*_, **__):
        raise KeyboardInterrupt

    path, teacher = tmp_path / "hidden.npy", tiny.teacher()
    for name, where in (
        ("_write_note", teacher_cache),
        ("open_memmap", np.lib.format),
        ("_fill", teacher_cache),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, name, killed)
            teacher_cache.open_cache(path, teacher, data.tokens, data.windows, progress=False)
    found = teacher_cache.open_cache(path, teacher, data.tokens, data.windows, progress=False)
    assert np.abs(found[: data.windows[-1, 1]]).max(axis=1).min() > 0.0


def test_cache_refuses_foreign_files_and_overlaps(tmp_path, data):
    (tmp_path / "mine.npy").write_bytes(b"precious")
    with pytest.raises(DataError, match=r"mine\.npy: exists"):
        distill_cached(data, tmp_path / "mine.npy")
    assert (tmp_path / "mine.npy").read_bytes() == b"precious"
    overlapping = TokenData(data.tokens, [[0, 48], [24, 72]])
    with pytest.raises(DataError, match=r"\[0, 48\] and \[24, 72\] overlap"):
        distill_cached(overlapping, tmp_path / "other.npy")
