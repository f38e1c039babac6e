"""Calls of ops: NaN is not hidden, arguments are checked and left alone, threads do not wait."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from cases import CASES, LOSSES, OPS
from op_cotangents import cotangents

from hybridattn._core import ops, reference


@pytest.mark.parametrize("at", [0, 5, 16])
def test_nan_is_not_hidden(at):
    """Every op with an exp inside gives NaN for NaN: at the start of a vector, inside it, and in its tail."""
    x = np.zeros((2, 34), np.float32)
    x[1, at] = np.nan
    silu = ops.swiglu(x)
    assert np.isnan(silu[1, at]) and np.isnan(silu).sum() == 1
    for name in ("hedgehog", "favor", "elu", "relu"):
        weight = np.eye(17, dtype=np.float32)[None] if name in ("hedgehog", "favor") else None
        features = ops.feature_map(x[:, None, :17], weight, map=name)
        assert not np.isnan(features[0]).any() and np.isnan(features[1]).sum() == (
            34 if weight is not None else 1
        )
    for length in (1, 70):
        q, k = np.ones((length, 2, 17), np.float32), np.ones((length, 1, 17), np.float32)
        q[length - 1, 1, at] = np.nan
        out, lse, _ = ops.softmax_attention(q, k, k, return_stats=True)
        assert np.isnan(out[length - 1, 1]).all() and np.isnan(lse[length - 1, 1])
        assert np.isnan(out).sum() == 17 and np.isnan(lse).sum() == 1
    targets = np.array([0, 3])
    assert np.isnan(ops.cross_entropy(x, np.eye(34, dtype=np.float32), targets)).tolist() == [False, True]


@pytest.mark.parametrize("rows", [1, 70])
def test_nan_decay_is_not_hidden(rows):
    case = next(c for c in CASES if c.id == "gated_delta-chunks")
    q, k, v, g, beta = (case.arrays()[n][:rows] for n in OPS["gated_delta"].arrays)
    g[-1, 0] = np.nan
    out, state = ops.gated_delta(q, k, v, g, beta, return_state=True)
    assert np.isnan(out[-1, 0]).all() and np.isnan(state[0, 0]).all()
    assert (
        not np.isnan(out[: rows // 64 * 64]).any() and not np.isnan(out[:, 1:]).any()
    )  # earlier chunks, other heads
    assert not np.isnan(state[0, 1:]).any()


@pytest.mark.parametrize("op", LOSSES)
def test_loss_of_no_weight_has_no_gradient(op):
    case = next(c for c in CASES if c.op == op and next(iter(c.arrays().values())).shape[0] > 8)
    gradients = case.vjp(ops, case.arrays(), (np.zeros(1, np.float32),))
    assert gradients and not any(gradient.any() for gradient in gradients.values())


def x(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def attention(**options):
    return ops.softmax_attention(*[x(3, 1, 8)] * 3, **options)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ops.linear(x(2, 3), x(4, 5)), ValueError, r"weight has length 5 along axis 1 of \[O I\]"),
        (lambda: ops.linear(x(2, 3, 1), x(4, 3)), ValueError, r"x has 3 dimensions, expected 2: \[T I\]"),
        (lambda: ops.linear(x(0, 3), x(4, 3)), ValueError, "x has length 0 along axis 0"),
        (lambda: ops.linear(x(2, 3, dtype=np.complex64), x(4, 3)), TypeError, "x has dtype"),
        (lambda: ops.linear(x(2, 3)), TypeError, "weight"),
        (lambda: ops.swiglu(x(2, 3)), ValueError, "gate_up has length 3 along axis 1 .* multiples of 2"),
        (lambda: ops.embed([0, 5], x(5, 3)), ValueError, "tokens holds 5, allowed are 0 to 4"),
        (lambda: ops.embed([2**40], x(5, 3)), ValueError, "tokens holds 1099511627776"),
        (lambda: ops.embed(x(2), x(5, 3)), TypeError, "tokens has dtype"),
        (lambda: ops.cross_entropy(x(1, 3), x(5, 3), [-2]), ValueError, "targets holds -2, allowed are -1"),
        (lambda: ops.softmax_attention(x(3, 4, 8), x(3, 3, 8), x(3, 3, 8)), ValueError, "k has 3 heads"),
        (lambda: attention(window=-1), ValueError, "window is -1"),
        (lambda: attention(scale="big"), TypeError, "must be real number"),
        (lambda: attention(lengths=[2]), ValueError, "lengths add up to 2, expected 3"),
        (lambda: attention(lengths=[3, 1]), ValueError, r"lengths\[1\] is 1"),
        (lambda: attention(lengths=[3, 0]), ValueError, r"lengths\[1\] is 0"),
        (lambda: attention(lengths=3), TypeError, "lengths must be a sequence"),
        (lambda: attention(lengths=["a"]), TypeError, "integer"),
        (lambda: attention(lengths=[1, 2], key_lengths=[2, 1]), ValueError, r"key_lengths\[1\] is 1"),
        (lambda: ops.linear_attention(*[x(3, 1, 8)] * 3, lag=-1), ValueError, "lag is -1"),
        (lambda: ops.linear_attention(*[x(3, 1, 8)] * 3, lag=1, return_state=True), ValueError, "lag is 1"),
        (
            lambda: ops.recurrence(*[x(3, 1, 8)] * 3, g=x(3)),
            ValueError,
            r"g has 1 dimensions, expected 2: \[T K\]",
        ),
        (
            lambda: ops.recurrence(*[x(3, 1, 8)] * 3, a=x(3, 1, 8)),
            ValueError,
            "a, b and beta are given, None and None",
        ),
        (lambda: ops.gated_delta(*[x(3, 1, 8)] * 4, x(3, 1)), ValueError, "g has 3 dimensions, expected 2"),
        (lambda: ops.adamw(x(3), x(3), x(3), x(3), 0.1, 0), ValueError, "step is 0, allowed is 1 or more"),
        (lambda: ops.adamw(x(3, dtype=float), x(3), x(3), x(3), 0.1, 1), TypeError, "p must be a writable"),
        (lambda: ops.adamw(x(3), x(4), x(3), x(3), 0.1, 1), ValueError, "g has length 4"),
        (lambda: ops.adamw(*[x(3)] * 4, 0.1, 1, betas=(0.9,)), TypeError, "betas has 1 numbers"),
        (lambda: ops.adamw(*[x(3)] * 4, 0.1, 1, betas=0.9), TypeError, "betas must be two numbers"),
        (lambda: ops.adamw(*[x(3)] * 4, 0.1, 1.5), TypeError, "integer"),
        (lambda: ops.linear(None, x(4, 3)), TypeError, "x has dtype"),
        (lambda: ops.linear(x(2, 3), x(4, 3), bais=x(4)), TypeError, "bais"),
        (lambda: ops.rms_norm(x(2, 3), x(3), 1e-6), TypeError, "positional"),
        (lambda: ops.activation(x(2, 3), kind="elu"), ValueError, "allowed are none, .* and tanh"),
        (lambda: ops.activation(x(2, 3), kind=1), TypeError, "kind is a int, expected str"),
        (lambda: ops.stored_linear(x(2, 3), x(4, 3), dtype="q8"), ValueError, "dtype is .q8., allowed are"),
        (lambda: ops.feature_map(x(2, 1, 4)), ValueError, "weight is None, but the map hedgehog has one"),
        (lambda: ops.feature_map(x(2, 1, 4), x(1, 4, 4), map="elu"), ValueError, "map elu must be None"),
        (lambda: attention(sinks=1 << 31), OverflowError, "sinks is 2147483648, allowed are"),
        (lambda: reference.mix_linear(*[x(3, 1, 4)] * 3, None, None, x(2)), ValueError, "feature_k is None"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_arguments_are_converted_and_left_alone():
    a = np.random.default_rng(0).standard_normal((6, 8))
    strided = np.asfortranarray(a)
    expected = ops.linear(a.astype(np.float32), a.astype(np.float32))
    assert np.array_equal(ops.linear(strided, a.tolist()), expected)
    case = next(c for c in CASES if c.id == "gated_delta-chunk_and_one")
    arrays = case.arrays()
    before = {k: v.copy() for k, v in arrays.items()}
    case.vjp(ops, arrays, cotangents(case, arrays))
    assert all(np.array_equal(before[k], arrays[k]) for k in arrays)


def test_the_gil_is_released():
    """While one thread is inside a long op, another one keeps running Python."""
    q = np.ones((1500, 4, 64), np.float32)
    done = threading.Event()
    took = []

    def work():
        start = time.perf_counter()
        reference.softmax_attention(q, q[:, :1], q[:, :1])
        took.append(time.perf_counter() - start)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    longest, last = 0.0, time.perf_counter()
    while not done.is_set():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    assert longest < 0.7 * took[0]


def test_calls_from_several_threads():
    case = next(c for c in CASES if c.id == "softmax_attention-groups")
    arrays = case.arrays()
    tangents = cotangents(case, arrays)
    expected = case.vjp(ops, arrays, tangents)["k"]
    wrong = []

    def work():
        for _ in range(3):
            if not np.array_equal(case.vjp(ops, arrays, tangents)["k"], expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong
