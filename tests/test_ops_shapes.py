"""Attention and the two recurrences against their naive twins, at shapes that nobody chose."""

from __future__ import annotations

import cases
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridattn._core import ops, reference

few = settings(max_examples=20, deadline=None, derandomize=True)
HEADS = st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (6, 2)])
SIZE = st.integers(1, 40)
# several sequences in one batch, none of them empty, around the chunk of 64
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=4)


def compare(case: cases.Case) -> None:
    """Results and gradients, each within the case's tolerance of the twin's largest entry."""
    arrays = case.arrays()
    exact = {k: a if a.dtype.kind == "i" else a.astype(np.float64) for k, a in arrays.items()}
    got, wanted = case.call(ops, arrays), case.call(reference, exact)
    for fast, slow in zip(got, wanted, strict=True):
        assert fast.shape == slow.shape
        np.testing.assert_allclose(fast, slow, rtol=0, atol=case.tolerance * np.abs(slow).max())
    if not case.gradient:
        return
    rng = case.rng()
    tangents = tuple(rng.standard_normal(fast.shape).astype(np.float32) for fast in got)
    gradients = case.vjp(ops, arrays, tangents)
    for name, gradient in gradients.items():
        # a random direction: <gradient, d> against a central difference of the twin
        direction = rng.standard_normal(gradient.shape)
        direction /= max(np.linalg.norm(direction), 1e-30)
        step = 1e-6
        moved = [exact | {name: exact[name] + sign * step * direction} for sign in (1, -1)]
        ends = [case.call(reference, arrays) for arrays in moved]
        slope = sum(float((t * (a - b)).sum()) for t, a, b in zip(tangents, *ends)) / (2 * step)
        norm = max(float(np.linalg.norm(gradient)), case.gradient_floor * gradient.size**0.5)
        assert abs(float((gradient * direction).sum()) - slope) <= 1e-4 * norm + 1e-6, name


@few
@given(LENGTHS, HEADS, st.integers(1, 20), st.none() | st.integers(1, 100), st.integers(0, 5))
def test_softmax_attention(lengths, heads, half, window, sinks):
    options = {"window": window, "sinks": sinks} if window else {}
    compare(cases.attention("drawn", sum(lengths), *heads, dim=2 * half, lengths=lengths, **options))


@few
@given(
    LENGTHS,
    *(st.integers(1, 3), st.integers(1, 4)),
    *(SIZE, SIZE, st.sampled_from([0, -0.01, -0.3, -8.0]), st.booleans()),
)
def test_gated_delta(lengths, heads, group, dk, dv, decay, state):
    options = {"group": group, "state": state, "lengths": lengths}
    compare(cases.gated_delta("drawn", sum(lengths), heads, dk, dv, decay, **options))


@few
@given(LENGTHS, HEADS, SIZE, SIZE, st.integers(0, 70), st.booleans())
def test_linear_attention(lengths, heads, features, dim, lag, state):
    more = {"state": True} if state else {"lag": lag}
    compare(cases.linear_attention("drawn", sum(lengths), *heads, features, dim, lengths=lengths, **more))
