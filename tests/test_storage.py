"""Weights of 16, 8 and 4 bits: a model that stores them computes what its dequantised twin computes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tiny
from stored_models import LENGTHS, by_type, close, dequantised, prompt, teacher

import hybridattn as ha
from hybridattn import _core, radlads
from hybridattn.errors import ConfigError
from hybridattn.radlads import teacher as teacher_cache

pytestmark = pytest.mark.usefixtures("one_thread")


@by_type
@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_model_is_its_dequantised_twin(dtype, tied):
    model = teacher(tied=tied).astype(dtype)
    plain = dequantised(model)
    assert model.nbytes < 0.65 * plain.nbytes and set(model.stored()) == set(model.matrices())
    assert not plain.stored()
    for n in LENGTHS:
        close(model.logits(prompt(n)), plain.logits(prompt(n)))
    close(model.nll(prompt(40, 2)), plain.nll(prompt(40, 2)))
    caches = ha.Cache(model, 6), ha.Cache(plain, 6)
    for n in (9, 1, 1):
        close(*(m.logits(prompt(n, 6), cache=c, last=True) for m, c in zip((model, plain), caches)))


def test_four_bits_keep_the_embedding_in_eight():
    kinds = {name: dtype for name, (dtype, _) in teacher(tied=False).astype("q4_0").stored().items()}
    assert kinds["embed.weight"] == kinds["lm_head.weight"] == "q8_0"
    assert kinds["layers.0.mlp.up_proj.weight"] == kinds["layers.2.softmax.k_proj.weight"] == "q4_0"


@by_type
def test_threads_do_not_change_bits(dtype):
    model, found = teacher().astype(dtype), []
    try:
        for n in (1, 2):
            ha.set_num_threads(n)
            cache = ha.Cache(model, 1)
            parts = [model.logits(prompt(m), cache=cache) for m in (40, 1, 11)]
            found.append([a.tobytes() for a in parts])
    finally:
        ha.set_num_threads(1)
    assert found[0] == found[1]


@by_type
@pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def test_scores_and_alignment_beside_stored_weights(dtype, mixer):
    stored, data = teacher().astype(dtype), tiny.text_data(seq_len=24, max_tokens=200)
    probes = [m.to_probe(mixer) for m in (stored, dequantised(stored))]
    for name, array in probes[0].arrays(stored=False).items():
        assert np.array_equal(array, probes[1].arrays()[name]), name
    for method in ("kl_gate", "kl_replace"):
        a, b = (ha.score(p, data, method, progress=False).values for p in probes)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
    before = {name: data.tobytes() for name, (_, data) in probes[0].stored().items()}
    aligned = [
        radlads.align(m, mixer, data, steps=3, batch_size=2, lr=1e-3, progress=False)
        for m in (stored, dequantised(stored))
    ]
    np.testing.assert_allclose(aligned[0].train_result.losses, aligned[1].train_result.losses, rtol=1e-3)
    assert {name: data.tobytes() for name, (_, data) in aligned[0].stored().items()} == before
    hybrid = aligned[0].to_hybrid([1])
    close(hybrid.logits(prompt(30)), dequantised(hybrid).logits(prompt(30)))
    whole = hybrid.astype(dtype)  # the linear mixers' projections too
    assert set(whole.stored()) > set(hybrid.stored())
    close(whole.logits(prompt(30)), dequantised(whole).logits(prompt(30)))


def test_half_of_a_joined_matrix_may_be_stored():
    model = teacher()
    twin = model.astype("q8_0")
    names = ["layers.1.softmax.k_proj.weight", "layers.1.mlp.up_proj.weight"]
    for name in names:
        model.store(name, *twin.stored()[name])
    plain = dequantised(model)
    for n in LENGTHS:
        close(model.logits(prompt(n)), plain.logits(prompt(n)))
    assert set(model.stored()) == set(names)


def test_stored_weights_cannot_be_trained():
    model = teacher().astype("q8_0")
    for stage in ("distill", "finetune"):
        with pytest.raises(ValueError, match=r"embed.weight is stored as q8_0 and cannot be trained"):
            ha.Distiller(model, teacher(), stage=stage)
    probe = teacher().to_probe({"kind": "gated_delta"})
    name = "layers.1.gated_delta.q_proj.weight"
    probe.store(name, "bfloat16", _core.pack(probe.arrays()[name], "bfloat16"))
    with pytest.raises(ValueError, match=f"{name} is stored as bfloat16"):
        ha.Distiller(probe, stage="align")
    ha.Distiller(probe, stage="align", layers=[0, 2])


@pytest.mark.parametrize("stage", ["align", "distill", "finetune"])
def test_weights_stored_later_cannot_be_trained(stage):
    student, data = teacher().to_probe({"kind": "gated_delta"}), tiny.text_data(seq_len=24, max_tokens=200)
    if stage != "align":
        student = student.to_hybrid([0])
    trainer = ha.Distiller(student, teacher(), stage=stage)
    steps, lr = data.windows[:4].reshape(2, 2, 2), np.full((2, 2), 1e-2, np.float32)
    trainer.run(data.tokens, steps, lr, 0, 1)
    name = "layers.1.gated_delta.o_proj.weight"
    student.store(name, "bfloat16", _core.pack(student.arrays()[name], "bfloat16"))
    before = tiny.weights(student)
    with pytest.raises(ValueError, match=f"{name} is stored as bfloat16 and cannot be trained"):
        trainer.run(data.tokens, steps, lr, 1, 2)
    tiny.assert_same_weights(before, tiny.weights(student))
    assert trainer.step == 1


@by_type
@pytest.mark.parametrize("mixer", tiny.MIXERS, ids=lambda mixer: mixer["kind"])
def test_a_probe_of_a_stored_probe_starts_anew(dtype, mixer):
    stored = teacher().to_probe(mixer, seed=1).astype(dtype)
    found, wanted = (m.to_probe(mixer, seed=7) for m in (stored, dequantised(stored)))
    assert set(found.stored()) == {name for name in stored.stored() if f".{mixer['kind']}." not in name}
    for name, array in found.arrays(stored=False).items():
        assert np.array_equal(array, wanted.arrays()[name]), name
    before = tiny.weights(stored)
    name = next(name for name in stored.stored() if f".{mixer['kind']}." in name)
    says = f"{name} is stored as {stored.stored()[name][0]} and cannot be started anew: allowed is float32"
    with pytest.raises(ValueError, match=says):
        stored.init_mixers(seed=7)
    tiny.assert_same_weights(before, tiny.weights(stored))


def test_views_and_copies():
    model = teacher()
    name = "layers.0.mlp.down_proj.weight"
    values = model.arrays()[name].copy()
    half = model.astype("f16")
    assert half.parameters()[name].dtype == "float16"
    assert np.array_equal(half.arrays()[name], values.astype(np.float16))
    with pytest.raises(ValueError, match="read-only"):
        half.arrays()[name][0, 0] = 1.0
    bf16 = model.astype("bf16").arrays()[name]
    assert bf16.dtype == ml_dtypes.bfloat16 and np.array_equal(bf16, values.astype(ml_dtypes.bfloat16))
    blocks = model.astype("q4_1").arrays()[name]
    assert blocks.dtype == np.float32 and 0 < np.abs(blocks - values).max() < 0.1 * np.abs(values).max()
    assert name not in half.arrays(stored=False)
    twin = half.copy()
    assert twin.stored()[name][1] is half.stored()[name][1]
    kinds = [teacher_cache.weights_fingerprint(m) for m in (model, half, model.astype("q8_0"), half.copy())]
    assert len(set(kinds)) == 3 and kinds[1] == kinds[3]


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="dtype is 'q5_0'; allowed: float32, bfloat16"):
        teacher().astype("q5_0")
    with pytest.raises(ConfigError, match=r"layers.0.mlp.down_proj.weight is \[32, 48\], and rows of 48"):
        tiny.teacher(intermediate_size=48).astype("q8_0")
    large = teacher()
    large.arrays()["layers.1.mlp.up_proj.weight"][3, 5] = 1e9
    with pytest.raises(ConfigError, match=r"layers.1.mlp.up_proj.weight has numbers in row 3 that are too"):
        large.astype("q4_0")
    large.astype("bf16")
    model = teacher()
    matrix = np.zeros((32, 64), np.uint8)
    for name, dtype, data, says in [
        ("final_norm.weight", "bfloat16", np.zeros((32, 2), np.uint8), "expected"),
        (
            "layers.0.mlp.down_proj.weight",
            "q8_0",
            matrix,
            "rows of 64 bytes, allowed for q8_0 are multiples of 34",
        ),
        ("layers.0.mlp.down_proj.weight", "bfloat16", matrix, r"is \[32, 32\], expected \[32, 64\]"),
        ("layers.0.mlp.down_proj.weight", "float32", matrix, "allowed are other types"),
        ("layers.9.mlp.down_proj.weight", "q8_0", matrix, "no parameter"),
    ]:
        with pytest.raises(ValueError, match=says):
            model.store(name, dtype, data)
    probe = model.to_probe({"kind": "window_linear"})
    features = "layers.0.window_linear.feature_q.weight"
    assert features not in probe.matrices()
    with pytest.raises(ValueError, match="expected"):
        probe.store(features, "bfloat16", np.zeros((4, 16), np.uint8))
    assert not model.stored() and not probe.stored()
