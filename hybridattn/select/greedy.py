"""Greedy search over sets: every pick is scored again in the hybrid that the picks before it made.

Single-layer scores miss how layers act together: two layers may do one job, or each may need the other. A
round is one `flip`: all candidates of the round share prefixes and run side by side. Afterwards swaps are
tried: leave one layer out, see which is the best to put in its place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .task import Floats, Result, Task


def add(task: Task, *, k: int | None = None, swaps: int = 0) -> Result:
    """From the all-linear model, restore the layer that lowers the KL most, k times."""
    k = task.budget(k)
    kept: list[int] = []
    linear: Floats = np.zeros(0)
    for round_ in range(k):
        rest = [layer for layer in range(task.layers) if layer not in kept]
        base, rows = task.flip(task.set_gates(kept), rest, f"{round_ + 1}/{k}")
        linear = base if not kept else linear
        kept.append(rest[int(task.mean(rows).argmin())])
    return _finish(task, kept, lambda gain: np.argsort(-gain, kind="stable").tolist(), swaps, linear)


def remove(task: Task, *, k: int | None = None, swaps: int = 0) -> Result:
    """From the teacher, make the layer linear that raises the KL least, until k are left."""
    k = task.budget(k)
    kept, gone = list(range(task.layers)), list[int]()
    while len(kept) > k:
        _, rows = task.flip(task.set_gates(kept), kept, f"{len(gone) + 1}/{task.layers - k}")
        gone.append(kept.pop(int(task.mean(rows).argmin())))
    with task.as_reference():
        linear = task.kl(task.set_gates([]))
    return _finish(task, kept, lambda _: gone[::-1], swaps, linear)


def _finish(
    task: Task, kept: list[int], rest_order: Callable[[Floats], list[int]], swaps: int, linear: Floats
) -> Result:
    """Swap, then say what each layer is worth beside the set: what its loss costs, or its gain would
    bring.
    """
    done: list[tuple[int, int]] = []
    everything = list(range(task.layers))
    while True:
        base, rows = task.flip(task.set_gates(kept), everything, "set")
        inside = np.isin(everything, kept)
        worth = np.where(inside[:, None], rows - base, base - rows)
        found = _swap(task, kept, float(task.mean(base)), task.mean(worth)) if len(done) < swaps else None
        if found is None:
            break
        out, into = found
        kept[kept.index(out)] = into
        done.append(found)
    order = [*kept, *(layer for layer in rest_order(task.mean(worth)) if layer not in kept)]
    order += [layer for layer in everything if layer not in order]  # swapped out of a removal order
    options = {"k": len(kept), "swaps": [list(pair) for pair in done], "order": order}
    return Result(worth, base, linear, options)


def _swap(task: Task, kept: list[int], kl: float, worth: Floats) -> tuple[int, int] | None:
    """(layer out, layer in) of the first exchange that lowers the KL, trying the least needed layer first."""
    for out in sorted(kept, key=lambda layer: worth[layer]):
        others = [layer for layer in range(task.layers) if layer not in kept]
        left = [layer for layer in kept if layer != out]
        _, rows = task.flip(task.set_gates(left), others, f"swap {out}")
        best = int(task.mean(rows).argmin())
        if float(task.mean(rows[best])) < kl:
            return out, others[best]
    return None
