"""What a method will take, before it runs: in passes of the teacher over the scoring text, backward
counted twice.
"""

from __future__ import annotations

from .registry import SELECTORS


def expected_forwards(method: str, layers: int, k: int, *, steps: int = 24) -> float:
    """An estimate from above for `layers` layers and a set of `k`, references included; steps: of kl_joint.

    Of kl_restore_distilled only the reading is known here: each candidate's step 2 comes on top.
    """
    every = (layers + 1) / 2 + 1  # one flip of all layers: half the layers on average, and the base

    def rounds(sizes: range) -> float:
        return sum(1 + (every - 1) * n / layers for n in sizes)

    known = {
        "kl_replace": every + 2,
        "kl_restore": every + 1,
        "smart": every + 1,
        "kl_gate": 5.0,
        "kl_joint": 3.0 * steps + 3,
        "kl_greedy_add": rounds(range(layers, layers - k, -1)) + every + 1,
        "kl_greedy_remove": rounds(range(layers, k, -1)) + every + 2,
        "kl_restore_distilled": 2.0 * (layers + 1),
        "mse": 1.0,
        "perplexity": every,
    }
    if method.startswith("diagnostic:"):
        return every
    return known.get(method, 0.0) if method in SELECTORS else 0.0
