"""Every op against its naive twin in float64, and every gradient against finite differences of that twin."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, GRADIENT_CASES, OPS, Arrays
from op_cotangents import cotangents

from hybridattn import _core
from hybridattn._core import ops, reference

by_id = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
by_gradient_id = pytest.mark.parametrize("case", GRADIENT_CASES, ids=lambda case: case.id)


@pytest.fixture
def threads():
    before = _core.get_num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)


def doubles(arrays: Arrays) -> Arrays:
    return {k: a if a.dtype.kind == "i" else a.astype(np.float64) for k, a in arrays.items()}


@by_id
def test_forward(case):
    arrays = case.arrays()
    for fast, slow in zip(case.call(ops, arrays), case.call(reference, doubles(arrays)), strict=True):
        assert fast.shape == slow.shape
        np.testing.assert_allclose(fast, slow, rtol=0, atol=case.tolerance * np.abs(slow).max())


@by_gradient_id
def test_gradient(case):
    """<gradient, direction> against a central difference: a random direction an array, and single entries."""
    arrays = case.arrays()
    tangents = cotangents(case, arrays)
    exact = doubles(arrays)
    rng = case.rng()

    def value(name: str, moved: np.ndarray) -> float:
        results = case.call(reference, exact | {name: moved})
        return sum(float((t.astype(np.float64) * r).sum()) for t, r in zip(tangents, results, strict=True))

    def check(name: str, direction: np.ndarray, got: float, scale: float) -> None:
        step = 1e-6
        up, down = (value(name, exact[name] + sign * step * direction) for sign in (1, -1))
        noise = 1e-9 * max(abs(up), 1.0)  # of the difference itself
        allowed = case.gradient_tolerance * scale + noise
        assert (up - down) / (2 * step) == pytest.approx(got, rel=0, abs=allowed)

    gradients = case.vjp(ops, arrays, tangents)
    assert gradients.keys() == {name for name in arrays if name not in OPS[case.op].fixed}
    for name, gradient in gradients.items():
        assert gradient.shape == arrays[name].shape and gradient.dtype == np.float32
        floor = case.gradient_floor * gradient.size**0.5
        direction = rng.standard_normal(gradient.shape)
        norm = max(float(np.linalg.norm(gradient)), floor)
        check(name, direction, float((gradient * direction).sum()), norm)
        for at in {int(np.abs(gradient).argmax()), int(rng.integers(gradient.size))}:
            direction = np.zeros(gradient.shape)
            direction.flat[at] = 1.0
            largest = max(float(np.abs(gradient).max()), case.gradient_floor)
            check(name, direction, float(gradient.flat[at]), largest)


@by_id
def test_threads_do_not_change_bits(case, threads):
    arrays = case.arrays()
    tangents = cotangents(case, arrays) if case.gradient else ()
    found = []
    for n in (1, 2):
        threads(n)
        gradients = case.vjp(ops, arrays, tangents).values() if case.gradient else ()
        found.append([a.tobytes() for a in (*case.call(ops, arrays), *gradients)])
    assert found[0] == found[1]
