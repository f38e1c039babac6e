"""The guardian of a job on several ranks: a small program beside rank 0 that every rank is connected to.

MPI waits for ever for a rank that is gone, and launchers kill the others before they can say which it was.
This program is none of the launcher's processes, so it lives on to say it. What ends without a word has died:
the system closes the connections of a killed process at once, and keep-alive packets find a machine that is
gone. A rank that fails says so; if all ranks do, each goes on to raise its own error, else the job ends. It
also deals out numbers, for work that goes to ranks as they become free.

    python guardian.py SIZE HOST     reads a token from stdin, prints its port, and ends with the job

It imports nothing of the package, so that it starts in an instant. Messages are JSON objects, one a
line: from ranks hello, next, failed, done; to ranks given, raise, end, closed.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

GRACE_SECONDS = 3.0  # for the other ranks to fail too, as they do when all were given the same wrong thing
CONNECT_SECONDS = 30.0
KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # a lost machine shows after 20 s
KEPT = "what was saved is kept: the same command goes on from there"
STOPPED = "stopped"


def keep_alive(connection: socket.socket) -> None:
    """Have the system notice when the other end's machine is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Guardian:
    """The state of one job. `run` returns when it is over."""

    def __init__(self, size: int, server: socket.socket, token: str) -> None:
        self.size, self.server, self.token = size, server, token
        self.selector = selectors.DefaultSelector()
        self.selector.register(server, selectors.EVENT_READ)
        self.connections: dict[int, socket.socket] = {}
        self.names: dict[int, str] = {}
        self.rests: dict[socket.socket, bytes] = {}
        self.ranks: dict[socket.socket, int] = {}
        self.counters: dict[str, int] = {}
        self.failures: dict[int, str] = {}
        self.quiet: set[int] = set()  # ranks that have said good-bye
        self.deadline: float | None = time.monotonic() + CONNECT_SECONDS
        self.over = False

    def run(self) -> None:
        """Listen until the end."""
        while not self.over:
            timeout = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
            for key, _ in self.selector.select(timeout):
                if key.fileobj is self.server:
                    self._accept()
                elif not self.over:
                    self._read(key.fileobj)  # type: ignore[arg-type]
            if self.deadline is not None and time.monotonic() >= self.deadline and not self.over:
                self._too_late()

    def _accept(self) -> None:
        connection = self.server.accept()[0]
        keep_alive(connection)
        self.rests[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        *lines, self.rests[connection] = (self.rests[connection] + data).split(b"\n")
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                self._heard(connection, json.loads(line))
        if not data:
            self.selector.unregister(connection)
            connection.close()
            self._gone(self.ranks.get(connection))

    def _heard(self, connection: socket.socket, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "hello":
            if not secrets.compare_digest(str(message["token"]), self.token):
                return
            rank = int(message["rank"])
            self.ranks[connection], self.connections[rank] = rank, connection
            self.names[rank] = str(message["name"])
            if len(self.connections) == self.size:
                self.deadline = None
            return
        rank = self.ranks[connection]
        if kind == "next":
            number = self.counters.get(message["counter"], 0)
            self.counters[message["counter"]] = number + 1
            self._say(rank, kind="given", number=number)
        elif kind == "failed":
            self.failures[rank] = str(message["text"])
            if len(self.failures) == self.size:
                self.deadline = None
                self.quiet.update(self.connections)
                for other in self.connections:
                    self._say(other, kind="raise")
            elif self.deadline is None:
                self.deadline = time.monotonic() + GRACE_SECONDS
        elif kind == "done":
            self.quiet.add(rank)
            if len(self.quiet) == self.size:
                for other in self.connections:
                    self._say(other, kind="closed")
                self.over = True

    def _gone(self, rank: int | None) -> None:
        if rank is None:
            return
        if rank not in self.quiet and rank not in self.failures:
            self._end(f"error: {self.names[rank]} died; {KEPT}", 1)
            return
        del self.connections[rank]
        self.over = not self.connections

    def _too_late(self) -> None:
        if self.failures:
            stopped = all(text == STOPPED for text in self.failures.values())
            lines = [f"error: rank {rank}: {text}" for rank, text in sorted(self.failures.items())]
            text = "stopped; what was finished is kept" if stopped else "\n".join(lines)
            self._end(text, 130 if stopped else 1)
        else:
            missing = [rank for rank in range(self.size) if rank not in self.connections]
            self._end(f"error: rank {missing[0]} cannot reach rank 0's machine", 1)

    def _end(self, text: str, code: int) -> None:
        with suppress(OSError):
            os.write(2, f"\n{text}\n".encode())
        for rank in self.connections:
            self._say(rank, kind="end", code=code)
        self.over = True

    def _say(self, rank: int, **message: Any) -> None:
        with suppress(OSError):
            self.connections[rank].sendall(json.dumps(message).encode() + b"\n")


def main() -> None:
    """See the top of the file."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the job's ranks decide when it ends
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    size, host = int(sys.argv[1]), sys.argv[2]
    token = sys.stdin.readline().strip()
    with socket.create_server((host, 0), backlog=max(size, 16)) as server:
        print(server.getsockname()[1], flush=True)
        os.close(1)
        Guardian(size, server, token).run()


if __name__ == "__main__":
    main()
