"""Stored weights on disk: their type is kept, they are used where they lie, and they take no memory twice."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from stored_models import LENGTHS, close, dequantised, prompt, teacher

from hybridattn import _core
from hybridattn.errors import ConfigError, WeightError
from hybridattn.formats import dtypes
from hybridattn.formats.gguf import open_gguf
from hybridattn.formats.safetensors import open_weights, save_safetensors
from hybridattn.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


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
    import gguf_files

    kind = gguf_files.Type[name]
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.random_tensors(bias=True), kind)
    loaded = []
    for dtype in ("auto", "float32"):
        opened = open_gguf(path)
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
