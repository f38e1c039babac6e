"""Sequences in pieces: chunks, prefill and decoding give what the whole gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, OPS, Arrays, Case

from hybridattn._core import ops


def rows_of(case: Case, start: int, stop: int) -> Arrays:
    """Tokens start to stop of a case's arrays, by name; states left out."""
    arrays = {k: a for k, a in case.arrays().items() if k != "initial_state"}
    return {k: a if k == "weight" else a[start:stop] for k, a in arrays.items()}


def without_lengths(case: Case) -> Case:
    return replace(case, options={k: v for k, v in case.options.items() if k != "lengths"})


PIECES = [[1, 149], [149, 1], [64, 86], [50, 50, 50], [1] * 20 + [130], [63, 2, 85]]


@pytest.mark.parametrize("pieces", PIECES, ids=str)
@pytest.mark.parametrize("op", ["recurrence", "gated_delta", "linear_attention", "short_conv"])
def test_chunked_is_recurrent(op, pieces):
    """A sequence fed in pieces, the state going from call to call, gives what the whole gives."""
    case = next(c for c in CASES if c.op == op and c.name == "chunks")
    case = replace(case, options=case.options | {"return_state": True})
    whole = case.call(ops, case.arrays())
    state, parts, start = {}, [], 0
    for n in pieces:
        *part, last = case.call(ops, rows_of(case, start, start + n) | state)
        state = {"initial_state": last}
        parts.append(part)
        start += n
    assert start == len(whole[0])
    for i, expected in enumerate(whole[:-1]):
        np.testing.assert_allclose(np.concatenate([p[i] for p in parts]), expected, rtol=0, atol=3e-6)
    np.testing.assert_allclose(last, whole[-1], rtol=0, atol=1e-5 * np.abs(whole[-1]).max())


def test_gated_delta_gradient_through_pieces():
    """dinitial_state of the second piece is dstate of the first: together they give the whole's gradient."""
    case = next(c for c in CASES if c.id == "gated_delta-sequences")
    arrays = [case.arrays()[n] for n in OPS["gated_delta"].arrays]
    dout = case.rng().standard_normal(arrays[2].shape).astype(np.float32)
    whole = ops.gated_delta_vjp(*arrays, dout)
    cut = 70
    first, second = [a[:cut] for a in arrays], [a[cut:] for a in arrays]
    _, state = ops.gated_delta(*first, return_state=True)
    late = ops.gated_delta_vjp(*second, dout[cut:], initial_state=state)
    early = ops.gated_delta_vjp(*first, dout[:cut], late[-1])
    for a, b, expected in zip(early, late, whole[:-1]):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(np.concatenate([a, b]), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("options", [{}, {"window": 20, "sinks": 3}], ids=["full", "window"])
def test_prefill_then_decode_is_full_attention(options):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((90, n, 16)).astype(np.float32) for n in (4, 2, 2))
    whole = ops.softmax_attention(q, k, v, **options)
    parts = [ops.softmax_attention(q[a:b], k[:b], v[:b], **options) for a, b in [(0, 80), (80, 83), (83, 84)]]
    np.testing.assert_allclose(np.concatenate(parts), whole[:84], rtol=0, atol=2e-6)


def test_sequences_do_not_see_each_other():
    """Packed sequences give what each gives alone."""
    for case in (
        c for c in CASES if c.name.endswith("sequences") and c.op != "rope" and "state" not in c.name
    ):
        arrays, lengths = case.arrays(), case.options["lengths"]
        packed = case.call(ops, arrays)[0]
        for start, n in zip(np.cumsum([0, *lengths]), lengths):
            alone = without_lengths(case).call(ops, rows_of(case, start, start + n))[0]
            np.testing.assert_allclose(packed[start : start + n], alone, rtol=0, atol=1e-6)
