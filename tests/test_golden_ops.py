"""The ops and their gradients against PyTorch's autograd, through `golden/op_*.npz`."""

from __future__ import annotations

import pytest
from golden import compose
from test_golden import assert_close, golden

from hybridattn._core import ops

RELATIVE = 2e-5


def case(name: str):
    """(inputs, constants, outputs, upstream gradients, gradients by input); [1, T, ..] becomes [T, ..]."""
    file = golden(f"op_{name}.npz")
    tokens = file["in/q"].shape[:2]

    def part(prefix):
        found = {n.removeprefix(prefix): x for n, x in file.items() if n.startswith(prefix)}
        return {n: x[0] if x.shape[:2] == tokens else x for n, x in found.items()}

    constants = {n: x.item() for n, x in part("const/").items()}
    return part("in/"), constants, list(part("out/").values()), list(part("up/").values()), part("grad/")


@pytest.mark.parametrize("decay", ["mild", "none", "strong", "mixed"])
def test_gated_delta(decay):
    a, _, (out, last), (dout, dlast), expected = case(f"gated_delta_{decay}")
    args = [a[n] for n in ("q", "k", "v", "g", "beta")]
    got = ops.gated_delta(*args, initial_state=a["state"], return_state=True)
    assert_close(got[0], out, RELATIVE, "o")
    assert_close(got[1], last, RELATIVE, "state")
    gradients = ops.gated_delta_vjp(*args, dout, dlast, initial_state=a["state"])
    for name, value in zip(("q", "k", "v", "g", "beta", "state"), gradients):
        assert_close(value, expected[name], 1e-4, name)


@pytest.mark.parametrize("name", ["causal", "window", "sinks"])
def test_softmax_attention(name):
    a, constants, (out,), (dout,), expected = case(f"softmax_{name}")
    args = [a[n] for n in "qkv"]
    assert_close(ops.softmax_attention(*args, **constants), out, RELATIVE, "o")
    for n, value in zip("qkv", ops.softmax_attention_vjp(*args, dout, **constants)):
        assert_close(value, expected[n], RELATIVE, n)


def test_window_linear():
    a, constants, (out,), (dout,), expected = case("window_linear")
    names = ("q", "k", "v", "feature_q", "feature_k", "gate")
    args, size = [a[n] for n in names], (constants["window"], constants["sinks"])
    assert constants["scale"] == pytest.approx(a["q"].shape[-1] ** -0.5)
    assert_close(compose.window_linear(ops, *args, *size), out, RELATIVE, "o")
    for n, value in zip(names, compose.window_linear_vjp(ops, *args, dout, *size)):
        assert_close(value, expected[n], RELATIVE, n)
