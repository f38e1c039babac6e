"""The optimizer and the losses at their corners."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, OPS

from hybridattn._core import ops, reference


@pytest.mark.parametrize("n", [1, 7, 1000, 200_001])
def test_adamw(n):
    rng = np.random.default_rng(n)
    start = rng.standard_normal(n), np.zeros(n), np.zeros(n)
    fast, slow = ([a.astype(t) for a in start] for t in (np.float32, np.float64))
    options = {"betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1, "clip": 0.5}
    for step in (1, 2, 3):
        g = rng.standard_normal(n).astype(np.float32)
        for module, (p, m, v) in ((ops, fast), (reference, slow)):
            own = g.astype(p.dtype)
            assert module.adamw(p, own, m, v, 0.01 * step, step, **options) is None
            assert not own.any()
    for a, b in zip(fast, slow):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_align_loss_has_no_gradient_at_the_target():
    y = np.ones((3, 4), np.float32)
    assert not ops.align_loss(y, y).any()
    assert not ops.align_loss_vjp(y, y).any()


def test_kl_of_equals_is_zero():
    rng = np.random.default_rng(1)
    h, w = rng.standard_normal((20, 16)).astype(np.float32), rng.standard_normal((500, 16)).astype(np.float32)
    assert np.abs(ops.kl_divergence(h, h, w, w)).max() < 1e-6
    assert np.abs(ops.kl_divergence_vjp(h, h, w, w)[0]).max() < 1e-6


@pytest.mark.parametrize("name", ["one_row", "pieces", "sharp"])
def test_kl_gives_cross_entropy_on_the_side(name):
    case = next(c for c in CASES if c.id == f"kl_divergence-{name}")
    arrays = [case.arrays()[n] for n in OPS[case.op].arrays]
    targets = case.rng().integers(-1, len(arrays[3]), len(arrays[0]))
    kl, nll = ops.kl_divergence(*arrays, targets)
    assert np.array_equal(kl, ops.kl_divergence(*arrays))
    exact = reference.kl_divergence(*arrays, targets)[1]
    np.testing.assert_allclose(nll, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_skipped_targets_have_no_gradient():
    case = next(c for c in CASES if c.id == "cross_entropy-pieces")
    a = case.arrays()
    dhidden, _ = ops.cross_entropy_vjp(a["hidden"], a["head"], a["targets"])
    assert not dhidden[::3].any() and dhidden[1::3].all()
    assert not ops.cross_entropy(a["hidden"], a["head"], a["targets"])[::3].any()
