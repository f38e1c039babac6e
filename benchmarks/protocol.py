"""Two processes, one measurement: the driver asks each side in turn, so both meet the same machine.

A side is a Python script with a table {operation: builder}. A builder takes a case (dict) and its inputs
(dict of arrays) and gives a dict of callables: parts to time, and "check", whose array both sides must agree
on. Messages are JSON, one line each.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What suits PyTorch best: freed pages stay with the process, large temporaries are not mapped anew each time.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


class SideMissing(RuntimeError):
    """The environment of a side lacks what it needs; the message says what."""


class Side:
    """A running side. `ask(do, **fields)` sends one request and waits; errors there are raised here."""

    def __init__(
        self, script: str, python: str = sys.executable, threads: int = 2, extra_env: dict | None = None
    ):
        env = dict(
            os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), **(extra_env or {})
        )
        root = env.get("HYBRIDATTN_BENCH_ROOT", str(HERE.parent))  # the package to measure
        env["PYTHONPATH"] = os.pathsep.join([root, env.get("PYTHONPATH", "")])
        self.name = Path(script).stem
        self.process = subprocess.Popen(
            [python, str(HERE / script), "--serve", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.versions = self._receive()["versions"]

    def _receive(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SideMissing(f"{self.name}: ended with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise SideMissing(f"{self.name}: {answer['missing']}")
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, do: str, **fields) -> dict:
        try:
            self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it died between two requests, say for want of memory
            raise SideMissing(f"{self.name}: ended with exit code {self.process.wait()}") from None
        return self._receive()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def start(script: str, python: str | None = None, **options) -> Side | None:
    """A side, or None with one line of explanation when its environment cannot run it."""
    try:
        return Side(script, python or sys.executable, **options)
    except (SideMissing, FileNotFoundError) as error:
        print(f"skipped: {error}", file=sys.stderr)
        return None


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> None:
    """Peak memory counts from here on, where the system can do that: loading weights takes more than using
    them.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def serve(begin: Callable[[int], dict], builders: dict[str, Callable]) -> None:
    """The child's loop. `begin(threads)` imports, sets threads, gives {name: version}; or ImportError.

    Requests: setup (case) -> check; run (part, times) -> seconds; close -> {}; each with the peak memory so
    far.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # a stray print must not break the protocol

    def send(**answer) -> None:
        print(json.dumps(answer), file=out, flush=True)

    try:
        send(versions=begin(int(sys.argv[2])))
    except ImportError as error:
        return send(missing=f"{error} (in {sys.executable})")
    parts: dict[str, Callable] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "setup":
                import cases

                case = request["case"]
                if case["op"] not in builders:
                    send(unknown=True)
                    continue
                parts = builders[case["op"]](case, cases.inputs(case))
                check = parts.pop("check")() if "check" in parts else []
                send(check=[float(x) for x in check], parts=sorted(parts), peak=peak_bytes())
            elif request["do"] == "run":
                seconds = []
                for _ in range(request.get("times", 1)):
                    begin_time = time.perf_counter()
                    parts[request["part"]]()
                    seconds.append(time.perf_counter() - begin_time)
                send(seconds=seconds, peak=peak_bytes())
            else:
                parts = {}
                gc.collect()
                send()
        except Exception as error:  # the driver decides what to do with a failed case
            send(error=f"{type(error).__name__}: {error}")


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
