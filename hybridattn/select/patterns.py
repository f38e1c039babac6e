"""Sets of softmax layers that need no model: even distances, random draws, both ends, SMART."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import check_int
from ..errors import PlanError
from ..model.plan import Plan


def uniform(num_layers: int, k: int, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers at even distances: layer floor((j + 1) * L / k) - 1 for j = 0 .. k-1.

    The layers are cut into k groups as equal as they can be, and the last layer of each group stays softmax.
    7 of 28 gives 3, 7, .., 27: the paper's uniform set at 25%, and the pattern of models trained as three
    linear layers, then one softmax.
    """
    softmax_count(num_layers, k, None)
    layers = tuple((j + 1) * num_layers // k - 1 for j in range(k))
    return Plan(
        layers,
        num_layers,
        "uniform",
        dict(mixer or {}),
        {"rule": "layer floor((j + 1) * L / k) - 1, j = 0..k-1"},
    )


def random(num_layers: int, k: int, seed: int = 0, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers drawn without replacement: the first k of the seed's permutation, so sets for
    growing k are nested.
    """
    softmax_count(num_layers, k, None)
    layers = tuple(sorted(int(i) for i in permutation(num_layers, seed)[:k]))
    how = {"rule": "first k of numpy.random.default_rng(seed).permutation(L)", "seed": seed}
    return Plan(layers, num_layers, "random", dict(mixer or {}), how)


def first_last(num_layers: int, k: int, mixer: dict[str, Any] | None = None) -> Plan:
    """`k` softmax layers from both ends inwards: 0, L-1, 1, L-2, .. (the first half of them, rounded up,
    in front).
    """
    softmax_count(num_layers, k, None)
    front = (k + 1) // 2
    layers = (*range(front), *range(num_layers - (k - front), num_layers))
    return Plan(layers, num_layers, "first_last", dict(mixer or {}), {"rule": "from both ends inwards"})


def smart(values: Sequence[float], k: int) -> tuple[int, ...]:
    """The set of SMART (Zebra-Llama, arXiv 2505.17272) for sensitivities [num_layers].

    The best layer of the first L // k and the best of the last L // k stay; between them, layers at near-even
    distances (the mean distance rounded down or up) whose sensitivities have the largest sum.
    """
    layers = len(values)
    softmax_count(layers, k, None)
    if k <= 1:
        return tuple(sorted(range(layers), key=lambda i: -values[i])[:k])
    end = layers // k
    first = max(range(end), key=lambda i: values[i])
    last = max(range(layers - end, layers), key=lambda i: values[i])
    narrow = (last - first) // (k - 1)
    # best[i]: (sum, path) of the paths that reach layer i with as many layers as rounds so far
    best: dict[int, tuple[float, tuple[int, ...]]] = {first: (values[first], (first,))}
    for _ in range(k - 1):
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for at, (total, path) in best.items():
            for step in (narrow, narrow + 1) if (last - first) % (k - 1) else (narrow,):
                layer = at + step
                if layer <= last:
                    found = (total + values[layer], (*path, layer))
                    if layer not in reached or found[0] > reached[layer][0]:
                        reached[layer] = found
        best = reached
    return best[last][1]


def explicit(num_layers: int, softmax_layers: Sequence[int], mixer: dict[str, Any] | None = None) -> Plan:
    """A plan given by hand."""
    return Plan(
        tuple(sorted(softmax_layers)), num_layers, "explicit", dict(mixer or {}), {"rule": "given by hand"}
    )


def permutation(num_layers: int, seed: int) -> np.ndarray:
    """int64 [num_layers]: the order in which the `random` baseline picks layers."""
    check_int("seed", seed, 0)
    return np.random.default_rng(seed).permutation(num_layers)


def softmax_count(num_layers: int, k: int | None, ratio: float | None) -> int:
    """k from whichever of the two is given. Raises PlanError."""
    if (k is None) == (ratio is None):
        raise PlanError(f"k, ratio are {k}, {ratio}; allowed: exactly one of the two")
    if ratio is not None:
        if not 0.0 <= ratio <= 1.0:
            raise PlanError(f"ratio is {ratio}; allowed: 0 to 1, the share of layers that stay softmax")
        k = int(ratio * num_layers + 0.5)
    assert k is not None
    if not 0 <= k <= num_layers:
        raise PlanError(f"k is {k}; allowed: 0 to the number of layers, {num_layers}")
    return k
