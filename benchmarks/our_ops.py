"""Our side of `ops.py`: builds each case on the functions of `hybridattn._core.ops`. Run by the driver.

Sequences lie one after the other, [T, H, hd] with `lengths`. A `_vjp` repeats the forward pass it needs, so
where it needs one, "both" is the vjp alone. `window_linear` is put together in NumPy from three ops, as the
golden test does it; the mixer in C fuses that, so its row is an upper bound.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))


def begin(threads: int) -> dict:
    global ops, compose
    import compose

    from hybridattn import _core

    ops = _core.ops
    _core.set_num_threads(threads)
    return {"numpy": np.__version__, "python": sys.version.split()[0], **_core.show_config()}


def sums(*arrays):
    """What both sides compare: the root of the sum of squares of each result."""
    return [float(np.sqrt(np.square(x.astype(np.float64)).sum())) for x in arrays]


def parts(forward, backward, with_forward):
    """forward, both and check; with_forward: the backward pass does not repeat the forward one."""

    def both():
        if with_forward:
            forward()
        return backward()

    return {"forward": forward, "both": both, "check": lambda: sums(forward(), *backward())}


def linear(case, a):
    x, w, up = a["x"], a["weight"], a["up"]
    return parts(lambda: ops.linear(x, w), lambda: ops.linear_vjp(x, w, up)[:2], True)


def rms_norm(case, a):
    x, w, up = a["x"], a["weight"], a["up"]
    return parts(lambda: ops.rms_norm(x, w, eps=1e-5), lambda: ops.rms_norm_vjp(x, w, up, eps=1e-5), True)


def rope(case, a):
    x = a["x"][0]
    return {"forward": lambda: ops.rope(x, a["inv_freq"]), "check": lambda: sums(ops.rope(x, a["inv_freq"]))}


def mlp(case, a):
    x, down, up, f = a["x"], a["down"], a["up"], len(a["gate"])
    joined = np.concatenate([a["gate"], a["up_proj"]])  # as the model stores them: one GEMM for both

    def forward():
        gate_up = ops.linear(x, joined)
        y = ops.swiglu(gate_up)
        return gate_up, y, ops.linear(y, down)

    def both():
        gate_up, y, _ = forward()
        dy, d_down, _ = ops.linear_vjp(y, down, up)
        dx, d_joined, _ = ops.linear_vjp(x, joined, ops.swiglu_vjp(gate_up, dy))
        return dx, d_joined[:f], d_joined[f:], d_down

    return {"forward": forward, "both": both, "check": lambda: sums(forward()[2], *both())}


def packed(case, a, names):
    """[B, T, ..] -> [B T, ..], and the lengths of the B sequences."""
    return [a[n].reshape(-1, *a[n].shape[2:]) for n in names], [case["length"]] * case["batch"]


def softmax(case, a, **options):
    (q, k, v, up), lengths = packed(case, a, ("q", "k", "v", "up"))
    options["lengths"] = lengths
    return parts(
        lambda: ops.softmax_attention(q, k, v, **options),
        lambda: ops.softmax_attention_vjp(q, k, v, up, **options),
        False,
    )


def attention(case, a):
    return softmax(case, a)


def window_attention(case, a):
    return softmax(case, a, window=case["window"], sinks=case["sinks"])


def window_linear(case, a):
    (q, k, v, up), lengths = packed(case, a, ("q", "k", "v", "up"))
    x = (q, k, v, a["feature_q"], a["feature_k"], a["gate"])
    rest = (case["window"], case["sinks"], lengths)
    return parts(
        lambda: compose.window_linear(ops, *x, *rest),
        lambda: compose.window_linear_vjp(ops, *x, up, *rest),
        False,
    )


def gated_delta(case, a):
    (*x, up), lengths = packed(case, a, ("q", "k", "v", "g", "beta", "up"))
    return parts(
        lambda: ops.gated_delta(*x, lengths=lengths),
        lambda: ops.gated_delta_vjp(*x, up, lengths=lengths)[:5],
        False,
    )


def kl_head(case, a):
    x = (a["teacher"], a["hidden"], a["weight"], a["weight"])

    def both():
        return ops.kl_divergence_vjp(*x, 1.0 / case["rows"])

    return {"both": both, "check": lambda: [float(ops.kl_divergence(*x).mean()), *sums(*both())]}


def cross_entropy_head(case, a):
    x = (a["hidden"], a["weight"], a["targets"])

    def both():
        return ops.cross_entropy_vjp(*x, 1.0 / case["rows"])

    return {"both": both, "check": lambda: [float(ops.cross_entropy(*x).mean()), *sums(*both())]}


def adamw(case, a):
    p, g = a["p"], a["g"]
    m, v, done = np.zeros_like(p), np.zeros_like(p), [0]

    def step():  # also zeroes the gradient, which PyTorch leaves to another pass
        done[0] += 1
        ops.adamw(p, g, m, v, 1e-5, done[0])

    return {"step": step, "check": lambda: (step(), sums(p))[1]}


BUILDERS = {
    f.__name__: f
    for f in (linear, rms_norm, rope, mlp, attention, window_attention, window_linear, gated_delta)
    + (kl_head, cross_entropy_head, adamw)
}

if __name__ == "__main__":
    from protocol import serve

    serve(begin, BUILDERS)
