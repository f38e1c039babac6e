"""Whole small models against their twins in float64, put together from `_core.reference`: hidden states, loss
and the gradient of every parameter against finite differences, for each mixer and its options.
"""

from __future__ import annotations

import numpy as np
import pytest
from twin_models import LENGTHS, RECURRENT, TWINS, VOCABULARY
from twins import hidden, loss

from hybridattn import _core

pytestmark = pytest.mark.usefixtures("one_thread")
by_name = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)


def stream() -> tuple[np.ndarray, np.ndarray]:
    """tokens [n] and windows [m,2] of LENGTHS, one after the other."""
    ends = np.cumsum(LENGTHS)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, ends[-1]).astype(np.int32)
    return tokens, np.stack([ends - LENGTHS, ends], -1).astype(np.int64)


def doubles(model: _core.Model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in model.parameters().items()}


@by_name
def test_hidden_states(twin):
    model = twin.model()
    tokens, windows = stream()
    expected = hidden(twin, doubles(model), tokens, LENGTHS)
    out = np.empty(expected.shape, np.float32)
    model.forward_windows(tokens, windows, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


OWN = ["softmax_gate", "window_gate", "gated_delta_own_heads", "gated_delta_own_heads_conv"]
LEAN = ["gated_delta_lean", "gated_delta_three_queries", "kda_full_gate", "rwkv7_small_gate", "gsa_grouped"]
ENCODERS = [
    f"both_{name}" for name in (*RECURRENT, "linear_relu", "linear_favor", "window_linear", "linformer")
]
# by the end of a parameter's name: what is multiplied with, what is added
EXTREMES: dict[str, dict[str, tuple[float, float]]] = {
    "all_forgotten": {"A_log": (0, 9), "w_bias": (0, 50)},
    "slots_forget_all_or_nothing": {"f_proj.weight": (1e2, 0)},
    "nothing_forgotten": {"dt_bias": (0, -200), "w_bias": (0, -200)},
    "beta_0_or_1": {"b_proj.weight": (1e3, 0), "a_bias": (0, 50)},
    "zero_keys": {"k_proj.weight": (0, 0)},
    "zero_queries_and_values": {"q_proj.weight": (0, 0), "v_proj.weight": (0, 0)},
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("kind", [*RECURRENT, "linear_relu", "linear_favor", "window", *ENCODERS])
def test_extremes(kind, extreme):
    """Forward against the twin with sequences of 1, 64 and 65 tokens; gradients are numbers."""
    twin = next(t for t in TWINS if t.name == kind)
    model = twin.model()
    for name, tensor in model.parameters().items():
        array = tensor.numpy()
        for end, (factor, addend) in EXTREMES[extreme].items():
            if name.endswith(end):
                array[...] = factor * array + addend
    lengths = [1, 64, 65, 2]
    ends = np.cumsum(lengths)
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, ends[-1]).astype(np.int32)
    windows = np.stack([ends - lengths, ends], -1).astype(np.int64)
    expected = hidden(twin, doubles(model), tokens, lengths)
    out = np.empty(expected.shape, np.float32)
    model.forward_windows(tokens, windows, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    distiller = _core.Distiller(model, None, "finetune", clip=1e9, micro_batch=3)
    distiller.run(tokens, windows[None, 1:3], np.full((1, 2), 1e-3, np.float32), 0, 1)
    assert all(np.isfinite(t.numpy()).all() for t in model.parameters().values())


@pytest.mark.parametrize("kind", [*RECURRENT, "gated_delta_conv", "rwkv7_conv", *OWN, *LEAN])
def test_decoding_continues_the_pass(kind):
    """A prompt, then token by token, is the whole: states of fixed size go from call to call."""
    model = next(t for t in TWINS if t.name == kind).model()
    tokens = np.random.default_rng(5).integers(0, VOCABULARY, (2, 70)).astype(np.int32)
    whole = model.logits(tokens)
    cache = _core.Cache(model, 2)
    parts = [model.logits(part, cache=cache) for part in np.split(tokens, [65, 66, 67, 69], axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=2e-5 * np.abs(whole).max())


@by_name
def test_gradients(twin):
    model = twin.model()
    tokens, windows = stream()
    weights = doubles(model)
    distiller = _core.Distiller(model, None, "finetune", clip=1e9, micro_batch=3)
    [[got]] = distiller.run(tokens, windows[None], np.zeros((1, 2), np.float32), 0, 1)
    assert got == pytest.approx(loss(twin, weights, tokens, LENGTHS), rel=1e-6)
    rng = np.random.default_rng(2)
    for name, moment in distiller.moments()["m"].items():
        gradient = moment.numpy().astype(np.float64) / 0.1  # AdamW's first moment after one step: (1 - .9) g
        direction = rng.standard_normal(gradient.shape)
        step = 1e-7  # small: the largest logit of window_linear jumps from key to key
        up, down = (
            loss(twin, weights | {name: weights[name] + sign * step * direction}, tokens, LENGTHS)
            for sign in (1, -1)
        )
        difference, allowed = (up - down) / (2 * step), 5e-5 * np.linalg.norm(gradient) + 1e-6
        assert difference == pytest.approx((gradient * direction).sum(), rel=0, abs=allowed), name
