"""A rank's connection to the guardian of its job, see guardian.py."""

from __future__ import annotations

import json
import os
import queue
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import HybridAttnError
from . import guardian

CLOSE_SECONDS = 10.0


class Watch:
    """The connection of one rank. share(value): what rank 0 gave, on every rank; name: what messages call
    this rank; one_host: whether all ranks are on one machine.
    """

    def __init__(self, rank: int, size: int, name: str, share: Callable[[Any], Any], one_host: bool) -> None:
        self.rank = rank
        self._over = False
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        host, port, token = share(_start(size, one_host) if rank == 0 else None)
        try:
            self._socket = socket.create_connection((host, port), guardian.CONNECT_SECONDS)
        except OSError as error:
            raise HybridAttnError(f"{name} cannot reach rank 0 on {host}, port {port}: {error}") from None
        self._socket.settimeout(None)
        guardian.keep_alive(self._socket)
        self._say(kind="hello", rank=rank, name=name, token=token)
        threading.Thread(target=self._listen, daemon=True, name="hybridattn-watch").start()

    def _say(self, **message: Any) -> None:
        with suppress(OSError):  # noticed by `_listen`
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        with self._socket.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                message = json.loads(line)
                if message["kind"] == "end":
                    os._exit(int(message["code"]))
                self._over = self._over or message["kind"] in ("raise", "closed")
                self._answers.put(message)
        if not self._over:
            os.write(2, f"\nerror: rank {self.rank} has lost rank 0's machine; {guardian.KEPT}\n".encode())
            os._exit(1)
        self._answers.put(None)

    def next(self, counter: str) -> int:
        """0, 1, 2, .. in order of asking, over all ranks."""
        self._say(kind="next", counter=counter)
        answer = self._answers.get()
        assert answer is not None
        return int(answer["number"])

    def fail(self, text: str) -> None:
        """This rank fails. Returns when all ranks do; else the job ends here, with their messages."""
        self._say(kind="failed", text=text)
        answer = self._answers.get()
        while answer is not None and answer["kind"] != "raise":
            answer = self._answers.get()

    def close(self) -> None:
        """The job is done on all ranks."""
        self._say(kind="done")
        with suppress(queue.Empty):
            self._answers.get(timeout=CLOSE_SECONDS)


def _start(size: int, one_host: bool) -> tuple[str, int, str]:
    """(host, port, token) of a new guardian, a process outside of the launcher's session."""
    host, token = "127.0.0.1" if one_host else socket.gethostname(), secrets.token_hex(16)
    program = [sys.executable, "-S", "-E", str(Path(guardian.__file__)), str(size), host if one_host else ""]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(token + "\n")
    process.stdin.close()
    port = process.stdout.readline().strip()
    process.stdout.close()
    if not port.isdecimal():
        raise HybridAttnError("the guardian of the ranks did not start")
    return host, int(port), token
