"""Greedy search over sets: every pick is scored again in the hybrid that the picks before it made.

Single-layer scores miss how layers act together: two layers may do one job, or each may need the other. A
round is one `flip`: all candidates of the round share prefixes and run side by side. Afterwards swaps are
tried: leave one layer out, see which is the best to put in its place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scoring import Floats, Result, Scoring


def add(scoring: Scoring, *, k: int | None = None, swaps: int = 0) -> Result:
    """From the all-linear model, restore the layer that lowers the KL most, k times."""
    k = scoring.budget(k)
    kept: list[int] = []
    linear: Floats = np.zeros(0)
    for round_ in range(k):
        rest = [layer for layer in range(scoring.layers) if layer not in kept]
        base, rows = scoring.flip(scoring.set_gates(kept), rest, f"{round_ + 1}/{k}")
        linear = base if not kept else linear
        kept.append(rest[int(scoring.mean(rows).argmin())])
    return _finish(scoring, kept, lambda gain: np.argsort(-gain, kind="stable").tolist(), swaps, linear)


def remove(scoring: Scoring, *, k: int | None = None, swaps: int = 0) -> Result:
    """From the teacher, make the layer linear that raises the KL least, until k are left."""
    k = scoring.budget(k)
    kept, gone = list(range(scoring.layers)), list[int]()
    while len(kept) > k:
        _, rows = scoring.flip(scoring.set_gates(kept), kept, f"{len(gone) + 1}/{scoring.layers - k}")
        gone.append(kept.pop(int(scoring.mean(rows).argmin())))
    with scoring.as_reference():
        linear = scoring.kl(scoring.set_gates([]))
    return _finish(scoring, kept, lambda _: gone[::-1], swaps, linear)


def _finish(
    scoring: Scoring, kept: list[int], rest_order: Callable[[Floats], list[int]], swaps: int, linear: Floats
) -> Result:
    """Swap, then say what each layer is worth beside the set: what its loss costs, or its gain would
    bring.
    """
    done: list[tuple[int, int]] = []
    everything = list(range(scoring.layers))
    while True:
        base, rows = scoring.flip(scoring.set_gates(kept), everything, "set")
        inside = np.isin(everything, kept)
        worth = np.where(inside[:, None], rows - base, base - rows)
        found = (
            _swap(scoring, kept, float(scoring.mean(base)), scoring.mean(worth))
            if len(done) < swaps
            else None
        )
        if found is None:
            break
        out, into = found
        kept[kept.index(out)] = into
        done.append(found)
    order = [*kept, *(layer for layer in rest_order(scoring.mean(worth)) if layer not in kept)]
    order += [layer for layer in everything if layer not in order]  # swapped out of a removal order
    options = {"k": len(kept), "swaps": [list(pair) for pair in done], "order": order}
    return Result(worth, base, linear, options)


def _swap(scoring: Scoring, kept: list[int], kl: float, worth: Floats) -> tuple[int, int] | None:
    """(layer out, layer in) of the first exchange that lowers the KL, trying the least needed layer first."""
    for out in sorted(kept, key=lambda layer: worth[layer]):
        others = [layer for layer in range(scoring.layers) if layer not in kept]
        left = [layer for layer in kept if layer != out]
        _, rows = scoring.flip(scoring.set_gates(left), others, f"swap {out}")
        best = int(scoring.mean(rows).argmin())
        if float(scoring.mean(rows[best])) < kl:
            return out, others[best]
    return None
