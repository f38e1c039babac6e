"""The chunked sums of the modelling file against the same token by token, in double precision."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hybridattn.export.modelling import recurrence as ops  # noqa: E402

pytestmark = pytest.mark.torch

BATCH, HEADS, KEYS, VALUES = 2, 3, 5, 4
DECAYS = {
    "none": None,
    "mild": (1, 0.1),
    "strong": (1, 40.0),
    "mild_channels": (KEYS, 0.1),
    "strong_channels": (KEYS, 40.0),
}
# one token, less than a chunk, chunks of both sizes and a rest
LENGTHS = (1, 7, 64, 150)


def normal(*shape):
    return torch.randn(BATCH, HEADS, *shape, dtype=torch.float64)


def operands(form: str, decay: str, steps: int) -> ops.Operands:
    """q, k of length 1, as the kinds on the delta rule have them; half of the decays are near 0."""
    q, k, v = (
        normal(steps, KEYS),
        torch.nn.functional.normalize(normal(steps, KEYS), dim=-1),
        normal(steps, VALUES),
    )
    g = None
    if DECAYS[decay] is not None:
        width, size = DECAYS[decay]
        g = -size * normal(steps, width).square() * (torch.rand(BATCH, HEADS, steps, width) < 0.5)
    rate = torch.rand(BATCH, HEADS, steps, 1, dtype=torch.float64)
    if form == "add":
        return ops.Operands(q, k, v, g)
    if form == "delta":
        return ops.Operands(q, rate * k, v, g, b=k if g is None else k * g.exp())
    return ops.Operands(q, normal(steps, KEYS), v, g, b=k, a=-rate * k)


def token_by_token(x: ops.Operands, state):
    outputs = []
    for t in range(x.k.shape[2]):
        out, state = ops.step(x, t, state)
        outputs.append(out)
    return torch.stack(outputs, 2), state


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("form", ["add", "delta", "erase"])
def test_chunks_are_the_recurrence(form, decay, steps):
    torch.manual_seed(steps)
    x, state = operands(form, decay, steps), normal(KEYS, VALUES)
    for actual, expected in zip(ops.recurrence(x, state), token_by_token(x, state), strict=True):
        close(actual, expected)
    close(ops.recurrence(x)[0], token_by_token(x, torch.zeros_like(state))[0])


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("size", [0.1, 40.0])
def test_decays_of_values(size, steps):
    torch.manual_seed(steps)
    q, k, v, state = normal(steps, KEYS), normal(steps, KEYS), normal(steps, VALUES), normal(KEYS, VALUES)
    g = -size * normal(steps, VALUES).square()
    actual, last = ops.value_recurrence(q, k, v, g, state)
    for t in range(steps):
        state = state * g[:, :, t].exp().unsqueeze(-2) + k[:, :, t].unsqueeze(-1) * v[:, :, t].unsqueeze(-2)
        close(actual[:, :, t], (q[:, :, t].unsqueeze(-2) @ state).squeeze(-2))
    close(last, state)


@pytest.mark.parametrize("steps", LENGTHS)
def test_sums_of_features(steps):
    torch.manual_seed(steps)
    fq, fk, v, state = (
        normal(2, steps, KEYS),
        normal(steps, KEYS),
        normal(steps, VALUES),
        normal(KEYS, VALUES),
    )
    actual, last = ops.feature_sums(fq, fk, v, state)
    for t in range(steps):
        state = state + fk[:, :, t].unsqueeze(-1) * v[:, :, t].unsqueeze(-2)
        close(actual[:, :, :, t], (fq[:, :, :, t].unsqueeze(-2) @ state.unsqueeze(2)).squeeze(-2))
    close(last, state)


@pytest.mark.parametrize("form", ["add", "delta", "erase"])
def test_no_decay_is_too_strong(form):
    """In float32 a channel that forgets all at every token gives numbers, forwards and backwards."""
    torch.manual_seed(0)
    x = operands(form, "strong_channels", 100)
    leaves = {name: y.float().requires_grad_() for name, y in vars(x).items() if y is not None}
    leaves["g"] = torch.full((BATCH, HEADS, 100, KEYS), -1e4, requires_grad=True)
    out, state = ops.recurrence(ops.Operands(**leaves))
    (out.sum() + state.sum()).backward()
    for y in (out, state, *(leaf.grad for leaf in leaves.values())):
        assert y.isfinite().all()
