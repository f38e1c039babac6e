"""What every kind of mixer that serves bidirectional models keeps to there, whatever its formula: sequences
packed together do not meet, every token counts for every other, bits do not depend on threads, and alignment,
scores and distillation run. The formulas themselves are checked in test_twins.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from hybridattn import _core, radlads, select

SMALL = {"window": 9, "sinks": 2, "slots": 16, "length": 80}
KINDS = {
    n: entry for n, entry in _core.mixers().items() if "bidirectional" in entry["masks"] and n != "softmax"
}
SPECS = [
    {"kind": n} | {o: v for o, v in SMALL.items() if o in entry["options"]} for n, entry in KINDS.items()
]
LENGTHS = [70, 1, 5, 64, 2]
ENDS = np.cumsum(LENGTHS)
WINDOWS = np.stack([ENDS - LENGTHS, ENDS], -1).astype(np.int64)
TOKENS = (np.arange(ENDS[-1], dtype=np.int32) * 37) % 256
by_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["kind"])


def encoder(spec, **changes):
    return tiny.teacher(bidirectional=True, **changes).to_probe(spec, seed=1)


def hidden(model, tokens, windows=None):
    """[T,D], each window's tokens in their places; one window unless given."""
    windows = np.array([[0, len(tokens)]]) if windows is None else windows
    out = np.empty((len(tokens), model.config["hidden_size"]), np.float32)
    model.forward_windows(tokens, windows, out)
    return out


def test_all_kinds_say_whom_they_serve():
    built_in = {n: e["masks"] for n, e in tiny.built_in_mixers().items()}
    assert built_in.pop("linformer") == ("bidirectional",)
    assert set(built_in.values()) == {("causal", "bidirectional")}


@by_spec
def test_a_packed_sequence_is_what_it_is_alone(spec):
    model = encoder(spec).to_hybrid([1])
    packed = hidden(model, TOKENS, WINDOWS)
    for start, end in WINDOWS:
        alone = hidden(model, TOKENS[start:end])
        np.testing.assert_allclose(packed[start:end], alone, rtol=0, atol=2e-5 * np.abs(alone).max())
    moved = hidden(model, TOKENS, WINDOWS[[3, 0, 4, 1, 2]])
    np.testing.assert_allclose(moved, packed, rtol=0, atol=2e-5 * np.abs(packed).max())


@by_spec
def test_padding_changes_nothing(spec):
    model = encoder(spec).to_hybrid([])
    tokens = np.stack([TOKENS[:20], TOKENS[20:40]])
    mask = np.ones((2, 20), bool)
    mask[1, 7:] = False
    short = model.logits(tokens[1:, :7])
    np.testing.assert_allclose(
        model.logits(tokens, mask)[1, :7], short[0], rtol=0, atol=2e-5 * np.abs(short).max()
    )


@by_spec
@pytest.mark.parametrize("changed", [0, 39, 69])
def test_every_token_sees_every_other(spec, changed):
    model = encoder(spec, layers=1).to_hybrid([])
    tokens = TOKENS[:70].copy()
    before = hidden(model, tokens)
    tokens[changed] = 200
    differs = (hidden(model, tokens) != before).any(-1)
    if spec["kind"] == "window":  # changed is a sink or in the window
        near = abs(np.arange(70) - changed) < spec["window"]
        assert np.array_equal(differs, near | (changed < spec["sinks"]))
    else:
        assert differs.mean() > 0.9  # a strong decay may leave nothing at the far end


@pytest.mark.parametrize("kind", [n for n, entry in KINDS.items() if "rope" in entry["options"]])
def test_a_text_read_backwards_gives_its_outputs_backwards(kind):
    """Without positions left and right are alike, a token's own share included."""
    spec = next(s for s in SPECS if s["kind"] == kind) | {"rope": 0}
    model = encoder(spec).to_hybrid([])
    tokens = TOKENS[: SMALL["length"]]  # whole stretches for linformer
    forwards = hidden(model, tokens)
    backwards = hidden(model, tokens[::-1].copy())[::-1]
    np.testing.assert_allclose(backwards, forwards, rtol=0, atol=1e-4 * np.abs(forwards).max())


@by_spec
def test_threads_do_not_change_bits(spec):
    model, before, found = encoder(spec), _core.get_num_threads(), []
    model.gates[:] = 0.5
    try:
        for n in (1, 2):
            _core.set_num_threads(n)
            scorer = _core.KLScorer(model, tiny.teacher(bidirectional=True))
            kl, slope = scorer.gate_gradient(TOKENS, WINDOWS, model.gates)
            twin = model.copy()
            trainer = _core.Distiller(twin, tiny.teacher(bidirectional=True), "distill")
            trainer.run(TOKENS, WINDOWS[None, :1], np.full((1, 2), 1e-2, np.float32), 0, 1)
            arrays = [hidden(model, TOKENS, WINDOWS), kl, slope, *twin.arrays().values()]
            found.append([a.tobytes() for a in arrays])
    finally:
        _core.set_num_threads(before)
    assert found[0] == found[1]


@by_spec
def test_gates(spec):
    """Gate 1 is the teacher bit for bit, gate 0 the other mixer alone; slopes are those of differences."""
    probe, teacher = encoder(spec), tiny.teacher(bidirectional=True)
    assert hidden(probe, TOKENS, WINDOWS).tobytes() == hidden(teacher, TOKENS, WINDOWS).tobytes()
    probe.gates[:] = 0
    alone = hidden(probe.to_hybrid([]), TOKENS, WINDOWS)
    np.testing.assert_allclose(hidden(probe, TOKENS, WINDOWS), alone, rtol=0, atol=1e-6 * np.abs(alone).max())
    scorer = _core.KLScorer(probe, tiny.teacher(bidirectional=True, seed=5))
    gates, step = np.full(3, 0.5, np.float32), np.array([0, 5e-4, 0], np.float32)
    _, slopes = scorer.gate_gradient(TOKENS, WINDOWS, gates)
    up, down = (scorer.kl(TOKENS, WINDOWS, gates + s * step) for s in (1, -1))
    assert (up - down).mean() / 1e-3 == pytest.approx(slopes[:, 1].mean(), rel=0.04, abs=6e-3)


@by_spec
def test_the_whole_path(spec):
    """align, score, keep layers, distil."""
    teacher, data = tiny.teacher(bidirectional=True), tiny.text_data(48, 96)
    probe = radlads.align(teacher, spec, data, steps=16, batch_size=2, progress=False)
    assert (probe.train_result.losses[-1] < probe.train_result.losses[0]).all()
    for method in ("kl_gate", "kl_replace"):
        assert np.isfinite(select.score(probe, data, method).values).all()
    student = probe.to_hybrid([1])
    result = radlads.distill(student, teacher, data, steps=8, batch_size=2, lr_mixers=1e-3, progress=False)
    assert result.curve[-1] < result.curve[0]
    with pytest.raises(ValueError, match="a bidirectional model has no cache"):
        _core.Cache(student, 1)


def test_a_convolution_that_looks_back_is_refused():
    with pytest.raises(
        ValueError, match=r"layers\[0\]: gla's conv is 4, allowed in a bidirectional model is 0"
    ):
        encoder({"kind": "gla", "conv": 4})


def test_linformer_with_a_slot_for_every_token_starts_as_softmax():
    model, teacher = (
        encoder({"kind": "linformer", "slots": 80, "length": 80}),
        tiny.teacher(bidirectional=True),
    )
    expected = hidden(teacher, TOKENS, WINDOWS)
    found = hidden(model.to_hybrid([]), TOKENS, WINDOWS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_linformer_of_one_token_is_softmax_whatever_the_slots():
    model, teacher = (
        encoder({"kind": "linformer", "slots": 3, "length": 80}),
        tiny.teacher(bidirectional=True),
    )
    expected = hidden(teacher, TOKENS[:1])
    found = hidden(model.to_hybrid([]), TOKENS[:1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_linformer_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"layers\[0\]: mixer linformer is for bidirectional models only"):
        tiny.teacher().to_probe({"kind": "linformer"})
    with pytest.raises(
        ValueError, match=r"layers\[0\]: linformer's slots is 9, allowed are 1 to its length, 8"
    ):
        encoder({"kind": "linformer", "slots": 9, "length": 8})
    model = encoder({"kind": "linformer", "slots": 4, "length": 8}).to_hybrid([])
    with pytest.raises(ValueError, match="a sequence has 9 tokens, allowed by linformer's length are 1 to 8"):
        hidden(model, TOKENS[:9])
    assert np.isfinite(hidden(model, TOKENS[:8])).all()
