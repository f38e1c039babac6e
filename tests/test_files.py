"""Lock files: one holder at a time, whoever comes and goes."""

import multiprocessing
import time

import pytest

from hybridattn.errors import LockedError
from hybridattn.locks import locked

SECONDS = 1.0


def hold_again_and_again(path, wait, found):
    """Takes the lock and counts in the file beside it, which only its holder may do."""
    held, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            with locked(path, wait=wait):
                count = path.with_suffix(".count")
                count.write_text(str(int(count.read_text()) + 1))
                held += 1
        except LockedError:
            pass
    found.put(held)


@pytest.mark.parametrize("wait", [True, False])
def test_processes_take_turns(tmp_path, wait):
    """The file is taken away after every turn, while others are on their way to it."""
    context = multiprocessing.get_context("fork")
    path, found = tmp_path / "x.lock", context.Queue()
    path.with_suffix(".count").write_text("0")
    runs = [context.Process(target=hold_again_and_again, args=(path, wait, found)) for _ in range(3)]
    for run in runs:
        run.start()
    held = [found.get(timeout=60) for _ in runs]
    for run in runs:
        run.join(timeout=60)
        assert run.exitcode == 0
    assert int(path.with_suffix(".count").read_text()) == sum(held) > 100
    assert not path.exists()


def test_the_holder_is_named(tmp_path):
    path = tmp_path / "x.lock"
    another = pytest.raises(LockedError, match=r"x\.lock: another run \(process \d+\)")
    with locked(path), another, locked(path):
        pass
    with locked(path):
        pass
