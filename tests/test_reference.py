"""The naive twins themselves, against NumPy one-liners: what everything else in the tests leans on."""

import numpy as np
import pytest

from hybridattn._core import reference as ref

rng = np.random.default_rng(5)


def softmax(s: np.ndarray) -> np.ndarray:
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def log_softmax(s: np.ndarray) -> np.ndarray:
    return s - np.log(np.exp(s).sum(-1, keepdims=True))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_rows():
    x, w, b = rng.standard_normal((5, 6)), rng.standard_normal((4, 6)), rng.standard_normal(4)
    close(ref.linear(x, w, b), x @ w.T + b)
    close(ref.rms_norm(x, w[0], eps=0.1), x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * w[0])
    close(ref.swiglu(x), x[:, :3] / (1 + np.exp(-x[:, :3])) * x[:, 3:])
    close(ref.embed([3, 0], w), w[[3, 0]])
    heads, square = x.reshape(5, 2, 3), rng.standard_normal((2, 3, 3))
    u = np.einsum("hij,thj->thi", square, heads)
    close(ref.feature_map(heads, square), softmax(np.concatenate([u, -u], -1)))
    half = (heads**2).sum(-1, keepdims=True) / 2 / heads.shape[-1] ** 0.5
    close(ref.feature_map(heads, square, map="favor"), np.exp(np.concatenate([u, -u], -1) - half))
    close(ref.feature_map(heads, map="elu"), np.where(heads > 0, heads + 1, np.exp(heads)))
    close(ref.feature_map(heads, map="relu"), heads * (heads > 0))


def test_rope_turns_complex_numbers():
    x, freq = rng.standard_normal((7, 2, 6)), np.array([1.0, 0.3, 0.01])
    z = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * np.array([0, 1, 2, 3, 0, 1, 2])[:, None, None] * freq)
    close(ref.rope(x, freq, lengths=[4, 3], factor=2.0), 2 * np.concatenate([z.real, z.imag], -1))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window, sinks", [(0, 0), (3, 0), (3, 2)])
def test_softmax_attention(causal, window, sinks):
    t, h, kv, d = 9, 4, 2, 6
    q, k, v = (rng.standard_normal((t, n, d)) for n in (h, kv, kv))
    i, j = np.mgrid[:t, :t]
    seen = (j <= i) | (not causal)
    if window:
        seen &= (abs(i - j) < window) | (j < sinks)
    s = np.einsum("ihd,jhd->hij", q, k.repeat(h // kv, 1)) * d**-0.5
    s = np.where(seen, s, -np.inf)
    options = {"causal": causal, "window": window, "sinks": sinks}
    out, lse, top = ref.softmax_attention(q, k, v, return_stats=True, **options)
    close(out, np.einsum("hij,jhd->ihd", softmax(s), v.repeat(h // kv, 1)))
    close(lse, np.log(np.exp(s).sum(-1)).T)
    close(top, s.max(-1).T)


def test_gated_delta():
    t, h, dk, dv = 6, 2, 3, 4
    q, k, v = (rng.standard_normal((t, h, n)) for n in (dk, dk, dv))
    g, beta = -rng.uniform(0, 2, (t, h)), rng.uniform(0, 1, (t, h))
    state = rng.standard_normal((1, h, dk, dv))
    out, final = ref.gated_delta(q, k, v, g, beta, initial_state=state, return_state=True)
    for n in range(h):
        s = state[0, n]
        for i in range(t):
            kk = np.outer(k[i, n], k[i, n])
            s = np.exp(g[i, n]) * (np.eye(dk) - beta[i, n] * kk) @ s + beta[i, n] * np.outer(k[i, n], v[i, n])
            close(out[i, n], q[i, n] @ s)
        close(final[0, n], s)


@pytest.mark.parametrize("gate", ["none", "head", "channel"])
@pytest.mark.parametrize("form", ["add", "delta", "erase"])
def test_recurrence(form, gate):
    t, h, dk, dv = 6, 2, 3, 4
    q, k, a, b = (rng.standard_normal((t, h, dk)) for _ in range(4))
    v, state, beta = (rng.standard_normal(s) for s in ((t, h, dv), (1, h, dk, dv), (t, h)))
    g = {"none": None, "head": -rng.uniform(0, 2, (t, h)), "channel": -rng.uniform(0, 2, (t, h, dk))}[gate]
    more = {"add": {}, "delta": {"beta": beta}, "erase": {"a": a, "b": b}}[form]
    out, final = ref.recurrence(q, k, v, g=g, **more, initial_state=state, return_state=True)
    for n in range(h):
        s = state[0, n]
        for i in range(t):
            w = np.exp(np.zeros(dk) if g is None else g[i, n] * np.ones(dk))
            step = np.diag(w)
            if form == "delta":
                step = (np.eye(dk) - beta[i, n] * np.outer(k[i, n], k[i, n])) @ step
            if form == "erase":
                step = step + np.outer(a[i, n], b[i, n])
            s = step @ s + (beta[i, n] if form == "delta" else 1) * np.outer(k[i, n], v[i, n])
            close(out[i, n], q[i, n] @ s)
        close(final[0, n], s)


def test_recurrence_that_decays_values():
    q, k, v, gv = rng.standard_normal((4, 6, 1, 3))
    start = rng.standard_normal((1, 1, 3, 3))
    out, final = ref.recurrence(q, k, v, gv=-abs(gv), initial_state=start, return_state=True)
    state = start[0, 0]
    for i in range(6):
        state = state @ np.diag(np.exp(-abs(gv[i, 0]))) + np.outer(k[i, 0], v[i, 0])
        close(out[i, 0], q[i, 0] @ state)
    close(final[0, 0], state)


def test_slot_attention():
    """Slot i of token t is the mean of tokens j <= t under weights (1 - w_ji) w_{j+1,i} ... w_ti."""
    q, k, v = rng.standard_normal((3, 6, 2, 4))
    g = -abs(rng.standard_normal((6, 2, 3)))
    out = ref.slot_attention(q, k, v, g)
    for t in range(6):
        for n in range(2):
            share = (1 - np.exp(g[: t + 1, n])) * np.exp([g[j + 1 : t + 1, n].sum(0) for j in range(t + 1)])
            close(out[t, n], softmax(share.T @ k[: t + 1, n] @ q[t, n]) @ (share.T @ v[: t + 1, n]))


@pytest.mark.parametrize("lag", [0, 2, 9])
def test_linear_attention(lag):
    t, h, kv, features, d = 8, 4, 2, 5, 3
    f, e, v = rng.random((t, h, features)), rng.random((t, kv, features)), rng.standard_normal((t, kv, d))
    p = np.einsum("ihf,jhf->hij", f, e.repeat(2, 1)) * (np.mgrid[:t, :t][1] <= np.mgrid[:t, :t][0] - lag)
    num, den = ref.linear_attention(f, e, v, lag=lag)
    close(num, np.einsum("hij,jhd->ihd", p, v.repeat(2, 1)))
    close(den, p.sum(-1).T)


def test_losses():
    a, b = rng.standard_normal((2, 5, 3))
    w, u = rng.standard_normal((2, 7, 3))
    log_p, log_q = log_softmax(a @ w.T), log_softmax(b @ u.T)
    targets = [0, 6, -1, 2, 3]
    close(ref.cross_entropy(a, w, targets), [-log_p[i, j] if j >= 0 else 0 for i, j in enumerate(targets)])
    close(ref.kl_divergence(a, b, w, u), (np.exp(log_p) * (log_p - log_q)).sum(-1))
    close(ref.align_loss(a, b), np.linalg.norm(a - b, axis=-1) / 3**0.5)


def test_adamw_first_step_is_the_sign():
    """From zero moments the first step moves every entry by lr, against its gradient's sign."""
    p, g, m, v = np.zeros(4), np.array([1.0, -2.0, 1e3, -1e-3]), np.zeros(4), np.zeros(4)
    ref.adamw(p, g, m, v, 0.1, 1, eps=0.0)
    close(p, [-0.1, 0.1, -0.1, 0.1])
