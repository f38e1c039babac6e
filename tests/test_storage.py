"""Weights of 16, 8 and 4 bits: a model that stores them computes what its dequantised twin computes."""

from __future__ import annotations

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tiny

import hybridattn as ha
from hybridattn import _core, radlads
from hybridattn.errors import ConfigError, WeightError
from hybridattn.formats import dtypes
from hybridattn.formats.safetensors import open_weights, save_safetensors
from hybridattn.model import calibration
from hybridattn.model.model import Model
from hybridattn.radlads import teacher as teacher_cache

pytestmark = pytest.mark.usefixtures("one_thread")

TYPES = [name for name in dtypes.NAMES if name != "float32"]
by_type = pytest.mark.parametrize("dtype", TYPES)
LENGTHS = (1, 3, 11, 40)  # one row, few rows, a small batch, tiles


def teacher(**changes) -> Model:
    """Rows of every matrix are whole blocks."""
    return tiny.teacher(intermediate_size=64, num_attention_heads=4, **changes)


def dequantised(model: Model) -> Model:
    return model.astype("float32")


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def prompt(n: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(n).integers(0, tiny.EOS, (rows, n)).astype(np.int32)


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_saved_types_are_kept_and_mapped(tmp_path, dtype):
    model = teacher().astype(dtype)
    model.save_pretrained(tmp_path)
    back = Model.from_pretrained(tmp_path, dtype="auto")
    assert {name: kind for name, (kind, _) in back.stored().items()} == dict.fromkeys(model.matrices(), dtype)
    assert all(not data.flags.owndata and not data.flags.writeable for _, data in back.stored().values())
    assert back.logits(prompt(11)).tobytes() == model.logits(prompt(11)).tobytes()
    assert not Model.from_pretrained(tmp_path).stored()
    close(Model.from_pretrained(tmp_path).logits(prompt(11)), model.logits(prompt(11)))
    for name, (kept, _) in Model.from_pretrained(tmp_path, dtype="q8_0").stored().items():
        finer = name.endswith(("v_proj.weight", "o_proj.weight"))
        assert kept == ("float16" if finer else "q8_0"), name


def test_blocks_are_not_saved_by_accident(tmp_path):
    model = teacher().astype("q8_0")
    with pytest.raises(ConfigError, match="dtype is None; allowed: float32, bfloat16, float16"):
        model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, dtype="f32")
    assert Model.from_pretrained(tmp_path).logits(prompt(5)).tobytes() == (
        dequantised(model).logits(prompt(5)).tobytes()
    )


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mapped_weights_are_checked(tmp_path, dtype):
    model = teacher().astype(dtype)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    with open_weights(tmp_path) as source:
        tensors = {name: source.view(name).copy() for name in source.names()}
    tensors["model.layers.1.mlp.up_proj.weight"][7, 3] = np.inf
    save_safetensors(file, tensors)
    with pytest.raises(WeightError, match=r"up_proj.weight' has values that are NaN or infinite.*row 7"):
        Model.from_pretrained(tmp_path, dtype="auto")


# --- GGUF ---


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0", "q4_1"])
def test_blocks_are_rounded_as_gguf_does(dtype):
    gguf = pytest.importorskip("gguf")
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((400, 96)).astype(np.float32) * 10.0 ** rng.uniform(-3, 2, (400, 1))
    matrix = matrix.astype(np.float32)
    matrix[3] = 0.0
    matrix[5, 40] = 1000.0
    matrix[6, :32] = 0.25
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    packed = _core.pack(matrix, dtype)
    assert np.array_equal(packed, gguf.quants.quantize(matrix, kind))
    expected = gguf.quants.dequantize(packed, kind)
    np.testing.assert_allclose(
        _core.unpack(packed, dtype), expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "F16", "BF16", "Q5_0"])
def test_a_gguf_file_is_used_as_it_lies(tmp_path, name):
    pytest.importorskip("gguf")
    import test_gguf

    kind = test_gguf.Type[name]
    path = test_gguf.write(tmp_path / "m.gguf", test_gguf.random_tensors(bias=True), kind)
    loaded = []
    for dtype in ("auto", "float32"):
        opened = test_gguf.open_gguf(path)
        model = Model(opened.config)
        with opened.source as source:
            model._load(source, dtype == "auto")
        loaded.append(model)
    model, plain = loaded
    stored = model.stored()
    assert bool(stored) == (name != "Q5_0")
    if stored:
        assert {dtype for dtype, _ in stored.values()} == {dtypes.dtype_name(name.lower())}
        owned = {
            n.split(".")[-2]
            for n, (_, data) in stored.items()
            if data.flags.owndata or data.base.flags.owndata
        }
        assert owned <= {"q_proj", "k_proj"}  # their rows change places; everything else is mapped
    for n in LENGTHS:
        tokens = prompt(n) % model.config["vocab_size"]
        close(model.logits(tokens), plain.logits(tokens), 2e-4)  # weights of 1 make its softmax sharp


# --- memory ---


def test_mapped_weights_take_no_memory_of_their_own(tmp_path):
    """Load, score and align in a new process: anonymous memory stays far below the float32 weights."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("needs Linux's /proc")
    import subprocess

    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    code = f"""
import sys; sys.path.insert(0, {str(folder)!r})
import numpy as np
from pathlib import Path
import large
hf = large.QWEN_1_5B | dict(vocab_size=40000, hidden_size=512, intermediate_size=4096, num_hidden_layers=8,
                            num_attention_heads=8, num_key_value_heads=2)
size = large.write_model(Path({str(tmp_path)!r}), hf)
tokens = np.random.default_rng(0).integers(0, 40000, 48).astype(np.int32)
import hybridattn
hybridattn.ops.linear(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
before = large.resident()["RssAnon"]
with large.Peak() as peak:
    for stage, result in large.stages(Path({str(tmp_path)!r}), tokens, 24, {{"kind": "window_linear"}}):
        pass
assert np.isfinite(result).all()
print(size, peak.anon - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    weights, anonymous = map(int, done.stdout.split())
    mixers = 8 * 4 * (512 * (512 + 2 * 128 + 512) + 10 * 64 * 64)  # float32: the probe's linear mixers
    gradients = 3 * mixers // 8 + 3 * mixers // 8  # and moments, of one layer
    logits = 4 * 4 * 48 * 40000
    activations = 48 * 8 * 4 * (12 * 512 + 4 * 4096) * 2
    huge_pages = 64 << 20
    assert anonymous < mixers + gradients + logits + activations + huge_pages
    assert anonymous < weights  # which are bfloat16: half of what float32 would take


# --- rounding by what a matrix is multiplied with ---


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
    with pytest.raises(ValueError, match=r"names holds 'embed.weight': allowed are matrices\(\) of layers"):
        model.moments(data.tokens, data.windows, ["embed.weight"])


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
