"""Rounding to 8 and 4 bits by what a matrix is multiplied with."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from stored_models import close, teacher

from hybridattn import _core, radlads
from hybridattn.data.tokens import slices
from hybridattn.errors import ConfigError, WeightError
from hybridattn.model import calibration

pytestmark = pytest.mark.usefixtures("one_thread")


def gptq(w: np.ndarray, u: np.ndarray, dtype: str) -> np.ndarray:
    """The loop of arXiv 2210.17323 in float64, with the grid that `pack` chose for each block."""
    w, scales = w.astype(float).copy(), _core.pack(w, dtype, u)
    size = scales.shape[1] // (w.shape[1] // 32)
    for at in range(0, w.shape[1], 32):
        block = scales[:, at // 32 * size :][:, :size]
        d = np.ascontiguousarray(block[:, :2]).view(np.float16).astype(float)[:, 0]
        q8, q4_1 = dtype == "q8_0", dtype == "q4_1"
        low = np.ascontiguousarray(block[:, 2:4]).view(np.float16).astype(float)[:, 0] if q4_1 else -8 * d
        step = np.abs(w[:, at : at + 32]).max(axis=1) / 127  # what divides is not rounded to float16
        for j in range(at, at + 32):
            with np.errstate(all="ignore"):
                code = np.rint(w[:, j] / step) if q8 else np.clip(np.rint((w[:, j] - low) / d), 0, 15)
            rounded = code * d if q8 else code * d + low
            error = (w[:, j] - rounded) / u[j, j]
            w[:, j + 1 :] -= error[:, None] * u[j, j + 1 :]
            w[:, j] = rounded
    return w


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0", "q4_1"])
def test_rounding_by_moments_is_gptq(dtype):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(40, 96)).astype(np.float32)
    x = rng.normal(size=(400, 96)) * np.exp(rng.normal(size=96)) @ rng.normal(size=(96, 96))
    u = calibration.factor((x.T @ x).astype(np.float32))
    found, plain = (_core.unpack(_core.pack(w, dtype, f), dtype) for f in (u, None))
    want = gptq(w, u, dtype)
    # a number halfway between two codes may fall either way, and the rest of its row with it
    rows = np.abs(found - want).max(axis=1) < 1e-3
    assert rows.mean() > 0.8, np.abs(found - want).max(axis=1)
    assert np.linalg.norm(x @ (found - w).T) < 0.6 * np.linalg.norm(x @ (plain - w).T)


def test_without_correlations_nothing_is_carried_on():
    w = np.random.default_rng(2).normal(size=(8, 64)).astype(np.float32)
    assert np.array_equal(_core.pack(w, "q8_0", np.eye(64, dtype=np.float32)), _core.pack(w, "q8_0"))
    with pytest.raises(ValueError, match="factor is given, but float16 has no blocks"):
        _core.pack(w, "float16", np.eye(64, dtype=np.float32))
    with pytest.raises(ValueError, match=r"factor has length 32 along axis 0, expected 64"):
        _core.pack(w, "q4_0", np.eye(32, dtype=np.float32))


def test_moments_are_those_of_the_inputs():
    model, data = teacher(), tiny.text_data(seq_len=24, max_tokens=120)
    names = [name for name in model.matrices() if name.startswith("layers.")]
    found = model.moments(data.tokens, data.windows, names)
    arrays = model.arrays()
    x = np.concatenate([arrays["embed.weight"][data.tokens[a:b]] for a, b in data.windows]).astype(float)
    norm = arrays["layers.0.mixer_norm.weight"].astype(float)
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + model.model_config.norm_eps) * norm
    close(found["layers.0.softmax.q_proj.weight"], x.T @ x)
    assert found["layers.0.softmax.v_proj.weight"] is found["layers.0.softmax.q_proj.weight"]
    assert all(np.allclose(m, m.T, rtol=1e-4) and np.diag(m).min() > 0 for m in found.values())
    again = model.moments(data.tokens, data.windows[:2], names)
    assert model.moments(data.tokens, data.windows[2:], names, into=again)[names[0]] is again[names[0]]
    for name in names:
        close(again[name], found[name])
    with pytest.raises(ValueError, match=r"into must be what .* it has no .layers"):
        model.moments(data.tokens, data.windows, names, into={})
    with pytest.raises(ValueError, match=r"names holds 'embed.weight': allowed are matrices\(\) of layers"):
        model.moments(data.tokens, data.windows, ["embed.weight"])


def test_slices_of_the_text_do_not_change_bits():
    model, starts = teacher(), np.arange(0, 4700 - 64, 64)
    tokens = (np.arange(4700, dtype=np.int32) * 37) % 200
    windows = np.stack([starts, starts + 64], 1)
    names = [name for name in model.matrices() if name.startswith("layers.")]
    whole, parts = model.moments(tokens, windows, names), None
    pieces = slices(windows, calibration.SLICE_TOKENS)
    assert len(pieces) == 3
    for piece in pieces:
        parts = model.moments(tokens, piece, names, into=parts)
    assert all(np.array_equal(parts[name], whole[name]) for name in names)


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0", "q4_1"])
@pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def test_calibration_brings_logits_nearer(mixer, dtype, monkeypatch):
    data = tiny.text_data(seq_len=24, max_tokens=2400)
    model = radlads.align(teacher(), mixer, data, 2, 4).to_hybrid([0])
    text = np.stack([data.tokens[a:b] for a, b in data.windows[:40] if b - a == 24])
    want, plain = model.logits(text), model.astype(dtype)
    for at_once in (calibration._AT_ONCE, 1):  # all moments in one pass, or of one matrix at a time
        monkeypatch.setattr(calibration, "_AT_ONCE", at_once)
        rounded = model.astype(dtype, calibration=data)
        off, off_plain = (np.linalg.norm(m.logits(text) - want) for m in (rounded, plain))
        assert off < (0.9 if dtype == "q8_0" else 0.8) * off_plain
        kinds = {name: kind for name, (kind, _) in rounded.stored().items()}
        assert kinds["layers.0.softmax.v_proj.weight"] == ("float16" if dtype == "q8_0" else "q8_0")
    broken = teacher()
    broken.arrays()["layers.1.mlp.up_proj.weight"][0, 0] = np.nan
    with pytest.raises(
        WeightError, match=r"what layers.1.mlp.down_proj.weight is multiplied with .* not finite"
    ):
        broken.astype("q8_0", calibration=data)
    with pytest.raises(ConfigError, match="dtype with calibration is 'float16'; allowed: q8_0, q4_0, q4_1"):
        model.astype("f16", calibration=data)
