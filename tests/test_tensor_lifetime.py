"""Tensor: memory is kept as long as somebody looks at it, and no longer."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path

import leaks
import numpy as np
import pytest

from hybridattn._core import Tensor


def test_a_tensor_keeps_its_array_alive():
    array = np.ones(1000, np.float32)
    before = sys.getrefcount(array)
    tensor = Tensor.from_numpy(array)
    assert sys.getrefcount(array) == before + 1
    del tensor
    assert sys.getrefcount(array) == before


@pytest.mark.parametrize(
    "share",
    [
        Tensor.numpy,
        np.asarray,
        memoryview,
        np.from_dlpack,
        Tensor.from_dlpack,
        Tensor.__dlpack__,
        lambda t: t.__dlpack__(max_version=(1, 0)),
        lambda t: Tensor.from_numpy(t.numpy()),
        lambda t: t.numpy()[1:, ::2],
    ],
)
def test_views_keep_their_tensor_alive(share):
    tensor = Tensor((4, 5))
    tensor.numpy()[...] = 3
    before = sys.getrefcount(tensor)
    view = share(tensor)
    assert sys.getrefcount(tensor) > before
    del view
    assert sys.getrefcount(tensor) == before
    view = share(tensor)
    del tensor
    gc.collect()
    if type(view).__name__ != "PyCapsule":
        assert (np.asarray(view) == 3).all()


def test_a_consumer_may_let_go_in_another_thread():
    tensor = Tensor(10)
    before = sys.getrefcount(tensor)
    views = [np.from_dlpack(tensor) for _ in range(5)]
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert sys.getrefcount(tensor) == before


def left_behind(*arguments):
    """What tests/leaks.py says, in a process that does nothing else."""
    script = Path(__file__).with_name("leaks.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_nothing_leaks():
    """Neither references nor objects nor memory, on the error paths too: below a tenth of an object, or of
    the 16 bytes of the smallest piece, a call. A leak grows in every round; what Python and NumPy keep for
    themselves settles at a time of their own, so the round that grew least is judged.
    """
    found = left_behind()
    assert found["references"] == [0] * leaks.ROUNDS
    assert min(found["blocks"]) < leaks.CALLS / 10
    assert min(found["bytes"]) < 16 * leaks.CALLS / 10


def test_a_leak_is_found():
    found = left_behind("leak")
    assert min(found["references"]) >= leaks.CALLS and min(found["blocks"]) >= leaks.CALLS
