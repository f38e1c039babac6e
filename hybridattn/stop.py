"""Ctrl-C, SIGTERM and the end of the terminal as a request that no callback can swallow.

Python runs signal handlers between any two instructions, also inside `__del__`, weakref and gc callbacks, and
an exception raised there is dropped. So the handler only notes the request, in the C core, and work that can
stop asks for it: the core at every piece of work, loops in Python with `check`. A second signal while the
first still waits is raised at once, for code that does not ask.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import _core

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ASK_SECONDS = 0.2  # between two questions while another program works


def check() -> None:
    """Raise KeyboardInterrupt if a stop was asked for."""
    if _core.take_stop():
        raise KeyboardInterrupt


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    if not _core.request_stop():
        raise KeyboardInterrupt  # the request still stands, should a callback swallow this


@contextmanager
def on_signals(*names: str) -> Iterator[None]:
    """Within the block, signals become requests that `check` and the core raise as KeyboardInterrupt, at the
    latest at the end of the block. Signals that somebody else handles or ignores stay theirs, and outside the
    main thread nothing changes. names: of the signals, by default SIGINT, SIGTERM and SIGHUP.
    """
    taken: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in names or _NAMES:
            number = getattr(signal, name)
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                taken[number] = signal.signal(number, _on_signal)
    try:
        yield
        if taken:
            check()
    finally:
        for number, before in taken.items():
            signal.signal(number, before)
        if taken:
            _core.take_stop()  # an error ends the block: the request has been met


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with captured text, which a request to stop ends together with the program."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                out, err = process.communicate(timeout=_ASK_SECONDS)
                return subprocess.CompletedProcess(command, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                try:
                    check()
                except KeyboardInterrupt:
                    process.kill()
                    raise
