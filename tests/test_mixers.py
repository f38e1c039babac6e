"""What every registered linear mixer keeps to, whatever its formula: decoding continues the full pass, bits
do not depend on threads, gates have the slope that differences show, and the whole path from alignment to a
saved hybrid works. The formulas themselves are checked in test_twins.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import twin_models

from hybridattn import TokenData, _core, radlads, select, testing
from hybridattn.model.model import Model

SMALL = {"window": 9, "sinks": 2}
VARIANTS = [
    {"kind": "window_linear", "feature": 0},
    {"kind": "window_linear", "feature": 3},
    {"kind": "linear", "feature": 0, "normalise": 0},
    {"kind": "linear", "feature": 1, "normalise": 0},
    {"kind": "linear", "feature": 3},
    {"kind": "gated_delta", "conv": 4},
    {"kind": "rwkv6", "conv": 2},
    {"kind": "gated_delta", "grouped": 1, "output_gate": "low_rank"},
    {"kind": "kda", "grouped": 1, "output_gate": "none"},
    {"kind": "gsa", "grouped": 1},
]


def specs():
    """Every kind with its defaults, but windows below the length of the texts here; then the variants."""
    mixers = {name: entry for name, entry in _core.mixers().items() if "causal" in entry["masks"]}
    kinds = {name: entry["options"] for name, entry in mixers.items() if name != "softmax"}
    chosen = [{"kind": kind} for kind in kinds] + VARIANTS
    return [spec | {n: v for n, v in SMALL.items() if n in kinds[spec["kind"]]} for spec in chosen]


by_spec = pytest.mark.parametrize("spec", specs(), ids=lambda s: "-".join(str(v) for v in s.values()))
TOKENS = (np.arange(2 * 70, dtype=np.int32).reshape(2, 70) * 37) % 256


def hybrid(spec, seed=1):
    """Softmax, linear, linear."""
    return tiny.teacher().to_probe(spec, seed=seed).to_hybrid([0])


def test_every_kind_is_summed_up_has_a_rate_and_a_twin():
    kinds = tiny.built_in_mixers()
    assert all(len(entry["summary"].splitlines()) == 1 for entry in kinds.values())
    assert kinds.keys() == {twin.kind for twin in twin_models.TWINS}
    assert kinds.pop("softmax")["align_lr"] is None
    assert all(0 < entry["align_lr"] < 0.1 and entry["phrase"] for entry in kinds.values())
    assert all(radlads.align_lr(name) == entry["align_lr"] for name, entry in kinds.items())
    assert radlads.align_lr("softmax") == 1e-3


@by_spec
@pytest.mark.parametrize("check", sorted(testing.MIXER_CHECKS))
def test_check(spec, check):
    """Gradients, decoding, threads, padding and the rest, see `testing.check_mixer`."""
    testing.check_mixer(spec, only=[check])


@pytest.mark.parametrize("kind", twin_models.RECURRENT)
def test_a_convolution_starts_as_nothing(kind):
    plain, conv = (hybrid({"kind": kind, "conv": n}) for n in (0, 4))
    assert sum("_conv.weight" in name for name in conv.arrays()) == 2 * 3
    np.testing.assert_array_equal(conv.logits(TOKENS), plain.logits(TOKENS))


@pytest.mark.parametrize("kind", ["gated_delta", "gla"])
@pytest.mark.parametrize("family", [{}, {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}])
def test_gradients_go_through_a_convolution_that_does_nothing(kind, family):
    """Those of all other parameters are what they are without it, with and without a norm of q and k."""
    found = []
    for conv in (0, 3):
        student = tiny.teacher(head_dim=8, **family).to_probe({"kind": kind, "conv": conv}, seed=2)
        student.gates[:] = 0.5
        trainer = _core.Distiller(student, tiny.teacher(5, head_dim=8, **family), "distill", clip=1e9)
        trainer.run(TOKENS.ravel(), np.array([[[0, 70]]]), np.zeros((1, 2), np.float32), 0, 1)
        found.append({name: moment.numpy().copy() for name, moment in trainer.moments()["m"].items()})
    for name, gradient in found[0].items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(found[1][name], gradient, rtol=0, atol=1e-5 * scale, err_msg=name)


WITH = {
    "bias": {"architectures": ["LlamaForCausalLM"], "attention_bias": True},
    "qk_norm": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8},
}


@pytest.mark.parametrize("kind", twin_models.RECURRENT)
@pytest.mark.parametrize("option", WITH)
def test_what_a_teacher_has_may_be_left_out(kind, option):
    """Then a layer is that of a teacher without it, forwards and backwards."""
    without, bare = (
        tiny.teacher(**family).to_probe({"kind": kind} | more, seed=2)
        for family, more in ((WITH[option], {option: 0}), ({"head_dim": 8}, {}))
    )
    shapes = {name: a.shape for name, a in bare.arrays().items() if f".{kind}." in name}
    assert shapes == {name: a.shape for name, a in without.arrays().items() if f".{kind}." in name}
    assert len(tiny.teacher(**WITH[option]).to_probe({"kind": kind}).arrays()) > len(without.arrays())
    found = []
    for model in (without.to_hybrid([]), bare.to_hybrid([])):
        for name, array in model.arrays().items():
            array[...] = bare.arrays()[name]
        trainer = _core.Distiller(model, tiny.teacher(5), "distill", clip=1e9)
        logits = model.logits(TOKENS)
        trainer.run(TOKENS.ravel(), np.array([[[0, 70]]]), np.full((1, 2), 1e-2, np.float32), 0, 1)
        found.append([logits.tobytes(), *(array.tobytes() for array in model.arrays().values())])
    assert found[0] == found[1]


@by_spec
def test_the_whole_path(spec, tmp_path):
    """align, score, keep layers, distil, save, load, generate."""
    teacher, data = tiny.teacher(), tiny.text_data(48, 96)  # two windows: every step sees the same
    probe = radlads.align(teacher, spec, data, steps=24, batch_size=2, progress=False)
    assert (probe.train_result.losses[-1] < probe.train_result.losses[0]).all()
    for method in ("kl_gate", "kl_replace"):
        scores = select.score(probe, data, method)
        assert np.isfinite(scores.values).all()
    student = probe.to_hybrid([1])
    fixed = {name for name, _, group in student.parameter_info() if group == "fixed"}
    before = tiny.weights(student)
    result = radlads.distill(student, teacher, data, steps=12, batch_size=2, lr_mixers=1e-3, progress=False)
    assert result.curve[-1] < result.curve[0]
    for name in fixed:
        assert np.array_equal(student.arrays()[name], before[name])
    student.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    tiny.assert_same_weights(tiny.weights(student), tiny.weights(again))
    assert again.generate("the", max_new_tokens=8, temperature=0) == student.generate(
        "the", max_new_tokens=8, temperature=0
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_window_linear_with_its_gate_wide_open(bidirectional):
    """Far keys alone count where there are any, from e^60 to beyond float32. Rows without far keys stay."""
    teacher = tiny.teacher(bidirectional=bidirectional)
    model = teacher.to_probe({"kind": "window_linear", "window": 8, "sinks": 2}).to_hybrid([0])
    data, found = TokenData(TOKENS.ravel(), np.array([[0, 70], [70, 140]])), {}
    for gate in (-1000.0, -4.0, 60.0, 100.0, 1000.0):
        for name, array in model.parameters().items():
            if name.endswith(".gate"):
                array.numpy()[...] = gate
        found[gate] = model.logits(TOKENS)
        assert np.isfinite(found[gate]).all()
        radlads.distill(model.copy(), teacher, data, steps=1, batch_size=1, progress=False)
    np.testing.assert_allclose(found[1000.0], found[60.0], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(found[100.0], found[60.0], rtol=1e-5, atol=2e-5)
    assert np.abs(found[60.0][:, -1] - found[-4.0][:, -1]).max() > 1e-3  # the far keys do count
    rows = slice(0, 8) if not bidirectional else slice(0, 0)
    np.testing.assert_array_equal(found[1000.0][:, rows], found[-1000.0][:, rows])


@pytest.mark.parametrize("feature", range(4))
@pytest.mark.parametrize("bidirectional", [False, True])
def test_window_linear_costs_its_parts(feature, bidirectional):
    """A window of softmax, and on each side linear attention, which shares the maps of queries and keys."""
    heads, kv_heads, dim, window, sinks = 4, 2, 8, 8, 2
    teacher, specs = tiny.teacher(bidirectional=bidirectional), [{"kind": "linear", "feature": feature}]
    specs.append({"kind": "window_linear", "feature": feature, "window": window, "sinks": sinks})
    linear, both = (teacher.to_probe(spec).cost(1e4)[0][spec["kind"]]["flops_per_token"] for spec in specs)
    wide = dim if feature < 2 else 2 * dim
    near = 2 * window - 1 if bidirectional else window
    assert both - linear == 4 * heads * dim * (near + sinks + (wide if bidirectional else 0))
    maps = 2 * (heads + kv_heads) * dim**2 if feature >= 2 else 0
    projections = 2 * 32 * (2 * heads + 2 * kv_heads) * dim
    assert linear == projections + 4 * heads * dim * wide + maps


def test_favor_estimates_the_softmax_kernel():
    """phi(q).phi(k) over random rotations averages to exp(q.k / sqrt(dim)), up to the query's own factor."""
    rng, dim = np.random.default_rng(0), 16
    q, k = (0.7 * rng.standard_normal((1, 1, dim)).astype(np.float32) for _ in range(2))
    found = []
    for seed in range(300):
        probe = tiny.teacher(hidden_size=64, layers=1, head_dim=dim).to_probe(
            {"kind": "linear", "feature": 3}, seed
        )
        weight = probe.arrays()["layers.0.linear.feature_k.weight"][:1]
        phi_q, phi_k = (_core.ops.feature_map(a, weight, map="favor") for a in (q, k))
        found.append(float((phi_q * phi_k).sum()) / (2 * dim))
    expected = np.exp((q * k).sum() / dim**0.5)
    assert np.mean(found) == pytest.approx(
        expected, rel=4 * np.std(found) / expected / len(found) ** 0.5 + 0.01
    )
