"""A stop that was asked for comes, wherever the signal arrives."""

import gc
import os
import signal
import threading
import time
import weakref

import pytest
import tiny
from tqdm import tqdm

from hybridattn import radlads, stop


@pytest.fixture(scope="module")
def run():
    teacher = tiny.teacher(layers=2)
    return teacher.to_probe(tiny.MIXERS[0]).to_hybrid([1]), teacher, tiny.text_data(seq_len=24)


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

    class Bar(tqdm):
        def set_postfix(self, *args, **kwargs):
            steps.append(1)
            if len(steps) == 3:
                place(lambda: os.kill(os.getpid(), number))

    monkeypatch.setattr(loop, "make_bar", lambda *args, **options: Bar(disable=True))
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
