"""The part `overlap` of distributed.py: ranks of one machine behind a link that is made slow.

A message waits at its sender for as long as a link of so many bytes a second, which carries one message at a
time, would take for all before it and for itself; then it goes the usual way. The weights that a rank sends
around take their time in one piece. Small messages (losses, norms) are not slowed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from hybridattn import distributed, radlads
from hybridattn.distributed import ranks
from hybridattn.distributed.group import World
from hybridattn.radlads.sharing import WindowSharing

MIXER, SOFTMAX, BATCH, WINDOW = {"kind": "window_linear"}, [3, 9, 15, 21], 4, 512
STEPS = "1"
NODES = (2, 4, 8, 16, 32, 64)


class Held:
    """A message at its sender until `due`."""

    def __init__(self, due: float, begin: Callable[[], Any]) -> None:
        self.due, self.begin, self.request = due, begin, None


class SlowWorld(World):
    """bytes_per_second: of each rank's way out."""

    bytes_per_second = float("inf")

    def __init__(self, *given: Any) -> None:
        self.held: deque[Held] = deque()
        self.free = 0.0  # when the link is
        super().__init__(*given)

    def post(self, array: np.ndarray, to: int, tag: int) -> Any:
        plain = super().post
        self.free = max(self.free, time.perf_counter()) + array.nbytes / self.bytes_per_second
        self.held.append(Held(self.free, lambda: plain(array, to, tag)))
        return self.held[-1]

    def test(self, *requests: Any) -> bool:
        while self.held and self.held[0].due <= time.perf_counter():
            message = self.held.popleft()
            message.request = message.begin()
        begun = [request.request if isinstance(request, Held) else request for request in requests]
        return None not in begun and super().test(*begun)

    def gather_parts(self, array: np.ndarray, bounds: Any) -> None:
        started, sent = time.perf_counter(), self.bytes_sent
        super().gather_parts(array, bounds)
        due = started + (self.bytes_sent - sent) / self.bytes_per_second
        self.until(lambda: time.perf_counter() >= due)


def install(megabytes: float) -> None:
    """Make `distributed.world` slow: so many MB a second, 0: not."""
    SlowWorld.bytes_per_second = 1e6 * megabytes if megabytes else float("inf")
    ranks.World = SlowWorld  # type: ignore[misc]


def watch(distiller: Any, work: Callable[[], Any]) -> list[float]:
    """When each stage of a backward pass was final, as shares of the time that `work` took."""
    began, before, over, moments = time.perf_counter(), distiller.finished, threading.Event(), []

    def look() -> None:
        while not over.wait(0.002):
            new = distiller.finished - before - len(moments)
            moments.extend([time.perf_counter() - began] * new)

    thread = threading.Thread(target=look)
    thread.start()
    work()
    seconds = time.perf_counter() - began
    over.set()
    thread.join()
    moments += [seconds] * (distiller.finished - before - len(moments))
    return [moment / seconds for moment in moments]


def job(teacher: Any, data: Any, steps: int) -> dict[str, Any]:
    """Step 2; of its last slice, a step or more: seconds, seconds of waiting, bytes; and when the stages of
    its last backward pass were final.
    """
    world, plain, one, found = distributed.current(), WindowSharing.run, WindowSharing._windows, {}

    def timed(self: Any, distiller: Any, start: int, stop: int, *rest: Any) -> None:
        world.barrier()
        started, waited, sent = time.perf_counter(), world.seconds, world.bytes_sent
        plain(self, distiller, start, stop, *rest)
        found["steps"] = stop - start
        found["seconds"] = time.perf_counter() - started
        found["waiting"], found["bytes"] = world.seconds - waited, world.bytes_sent - sent
        stages, starts = distiller.stages(), distiller.blocks()
        found["stage_bytes"] = (4 * np.bincount(stages, np.diff(starts))).astype(int).tolist()

    def watched(self: Any, distiller: Any, *rest: Any) -> float:
        losses: list[float] = []
        found["final"] = watch(distiller, lambda: losses.append(one(self, distiller, *rest)))
        return losses[0]

    WindowSharing.run = timed  # type: ignore[method-assign]
    if SlowWorld.bytes_per_second == float("inf"):
        WindowSharing._windows = watched  # type: ignore[method-assign]
    hybrid = teacher.to_probe(MIXER).to_hybrid(SOFTMAX)
    radlads.distill(hybrid, teacher, data, steps=steps, batch_size=BATCH, progress=False)
    return found


def part(result: Callable[..., list[dict[str, Any]]], known: dict[str, Any]) -> dict[str, Any]:
    """Two ranks of one thread, on a link whose messages of a step take half as long as its work."""
    free = result(2, 1, "overlap", "0", STEPS, overlap="never")
    print(json.dumps(free), flush=True)
    megabytes = free[0]["bytes"] / (free[0]["seconds"] / 2) / 1e6
    runs = {}
    for how in ("never", "always"):
        runs[how] = result(2, 1, "overlap", f"{megabytes:.1f}", STEPS, overlap=how)
        print(how, json.dumps(runs[how]), flush=True)
    found: dict[str, Any] = {"megabytes_per_second": megabytes, "windows": [BATCH, WINDOW], "free": free}
    for how, rows in runs.items():
        seconds, waiting = (sum(row[key] for row in rows) / len(rows) for key in ("seconds", "waiting"))
        found[how] = {"waiting_seconds": waiting, "waiting_share": waiting / seconds, "ranks": rows}
    tokens_per_second = known["speed"]["step2"]["plain"][0]["tokens_per_second"]
    return found | {"paper": paper(tokens_per_second, free[0]["final"], free[0]["stage_bytes"])}


def paper(tokens_per_second: float, final: list[float], stage_bytes: list[int]) -> list[dict[str, Any]]:
    """As the part `model`, nodes 16 times as fast: a link takes stages one by one as they become final in a
    node's last backward pass, of one window or of all its windows at once; weights follow.
    """
    rows, tokens, faster = [], 96 * WINDOW, 16
    for gigabits in (10, 100):
        for nodes in NODES:
            compute = tokens / tokens_per_second / faster / nodes
            one, link = min(compute, WINDOW / tokens_per_second / faster), gigabits * 1e9 / 8
            out = [size * (nodes - 1) / nodes / link for size in stage_bytes]
            row = {"gigabits": gigabits, "nodes": nodes, "compute_seconds": compute}
            for name, last_pass in (("efficiency", one), ("efficiency_in_one_pass", compute)):
                at = 0.0
                for share, seconds in zip(final, out, strict=True):
                    at = max(at, share * last_pass) + seconds
                row[name] = compute / (compute + at - last_pass + sum(out))
            rows.append(row)
    return rows
