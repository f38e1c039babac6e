"""Weight files: what is read back is what was written, and no damaged file gets further than its header."""

import json
import os
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridattn.errors import HybridAttnError, WeightError
from hybridattn.families import hf_name
from hybridattn.families.config import ModelConfig
from hybridattn.formats.gguf import open_gguf
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights, save_safetensors
from hybridattn.model.saved import read_config

BF16 = ml_dtypes.bfloat16
CONFIG = ModelConfig(
    family="llama", vocab_size=12, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4,
    intermediate_size=6, norm_eps=1e-5, rope_inv_freq=(1.0, 0.1), tie_embeddings=True, max_positions=16,
)  # fmt: skip
SHAPES = {"embed.weight": (12, 8), "layers.0.softmax.q_proj.weight": (8, 8), "final_norm.weight": (8,)}


def random_tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {
        hf_name(CONFIG, name): rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()
    }


def empty_params():
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_round_trip(tmp_path, dtype):
    tensors = {name: t.astype(dtype) for name, t in random_tensors().items()}
    save_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    with open_weights(tmp_path) as source:
        assert set(source.names()) == set(tensors)
        for name, tensor in tensors.items():
            out = np.empty(source.shape(name), np.float32)
            source.read_into(name, out)
            np.testing.assert_array_equal(out, tensor.astype(np.float32))
            view = source.view(name)
            assert view.dtype == dtype and not view.flags.writeable and not view.flags.owndata


def test_the_safetensors_package_reads_what_is_written(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {
        "a": np.arange(3, dtype=np.uint8), "b": np.ones((2, 3), np.float32), "c": np.array(5, np.int64),
        "é\"": np.zeros((0, 4), np.float16), "t": np.arange(6.0).reshape(2, 3).T,
    }  # fmt: skip
    save_safetensors(path, tensors, {"format": "pt", "note": "ü"})
    loaded = safetensors.numpy.load_file(path)
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(loaded[name], tensor)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt", "note": "ü"}


def test_reads_what_the_safetensors_package_writes(tmp_path):
    tensors = random_tensors()
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", {"format": "np"})
    params = empty_params()
    with open_weights(tmp_path) as source:
        load_into(params, source, CONFIG)
    for name, array in params.items():
        np.testing.assert_array_equal(array, tensors[hf_name(CONFIG, name)])


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(path, {"a": np.ones(2, np.float32)})
    before = path.read_bytes()
    with pytest.raises(WeightError, match="complex64"):
        save_safetensors(path, {"a": np.ones(2, np.complex64)})
    with pytest.raises(TypeError):
        save_safetensors(path, {"a": np.ones(2, np.float32)}, {"step": 3})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


# --- damaged files ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    save_safetensors(path, random_tensors(), {"format": "pt"})
    return path.read_bytes()


def test_every_prefix_is_refused(tmp_path, whole):
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    for size in reversed(range(len(whole))):
        os.truncate(path, size)
        with pytest.raises(WeightError) as caught:
            open_weights(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_never_crash(tmp_path, whole, data):
    """A changed header is refused with WeightError or still describes the file to the byte."""
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged)
    try:
        with open_weights(path) as source:
            load_into(empty_params(), source, CONFIG)
    except WeightError as error:
        assert str(path) in str(error)


HUGE = 1 << 62


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (raw({}, length=1 << 40), "header length is 1099511627776"),
        (raw({}, length=(1 << 64) - 1), "header length"),
        (raw(b"\xff\xfe{}"), "not JSON"),
        (raw(b"{"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b"[]"), "not an object"),
        (raw(b'{"a": 1, "a": 2}'), "twice"),
        (raw({"a": 3}), "'a'"),
        (raw({"a": {"dtype": "F32", "shape": [2]}}), "lacks"),
        (raw({"a": entry("F31")}, bytes(8)), "dtype 'F31'"),
        (raw({"a": entry(shape=[-2])}, bytes(8)), "[-2]"),
        (raw({"a": entry(shape=[2.0])}, bytes(8)), "[2.0]"),
        (raw({"a": entry(shape=[True, 2])}, bytes(8)), "[True, 2]"),
        (raw({"a": entry(shape=[HUGE] * 3)}, bytes(8)), "spans 8 bytes"),
        (raw({"a": entry(offsets=(0, 16))}, bytes(8)), "[0, 16]"),
        (raw({"a": entry(offsets=(8, 0))}, bytes(8)), "[8, 0]"),
        (raw({"a": entry(offsets=(0, 8, 8))}, bytes(8)), "[0, 8, 8]"),
        (raw({"a": entry(shape=[3])}, bytes(8)), "spans 8 bytes, not 12"),
        (raw({"a": entry(), "b": entry()}, bytes(8)), "starts at byte 0 of the data, not at 8"),
        (raw({"a": entry(offsets=(8, 16))}, bytes(16)), "starts at byte 8 of the data, not at 0"),
        (raw({"a": entry()}, bytes(12)), "end at byte 8 of the data, which has 12"),
    ],
)
def test_lying_headers(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightError) as caught:
        open_weights(tmp_path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_dtype_that_is_no_weight(tmp_path):
    save_safetensors(tmp_path / "model.safetensors", {"a": np.ones(2, np.int64)})
    with (
        open_weights(tmp_path) as source,
        pytest.raises(WeightError, match="dtype I64; allowed: F32, F16, BF16"),
    ):
        source.read_into("a", np.empty(2, np.float32))


# --- loading ---


def load(folder, tensors, params=None):
    save_safetensors(folder / "model.safetensors", tensors)
    params = empty_params() if params is None else params
    with open_weights(folder) as source:
        load_into(params, source, CONFIG)
    return params


def test_harmless_extras(tmp_path):
    tensors = random_tensors()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    load(tmp_path, tensors)


def test_a_tied_head_that_differs(tmp_path):
    tensors = random_tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    with pytest.raises(WeightError, match=r"'lm_head.weight' differs .* tie_word_embeddings"):
        load(tmp_path, tensors)


def test_missing(tmp_path):
    tensors = random_tensors()
    del tensors["model.norm.weight"], tensors["model.embed_tokens.weight"]
    with pytest.raises(WeightError, match=r"'model.embed_tokens.weight' is missing \(and 1 more\)"):
        load(tmp_path, tensors)


def test_unexpected(tmp_path):
    tensors = random_tensors()
    tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(4, np.float32)
    with pytest.raises(WeightError, match=r"model.safetensors: unexpected weight '.*q_norm.weight'; "):
        load(tmp_path, tensors)


def test_wrong_shape_leaves_everything_untouched(tmp_path):
    tensors = random_tensors()
    tensors["model.norm.weight"] = np.ones((4, 2), np.float32)
    params = empty_params()
    with pytest.raises(WeightError, match=r"'model.norm.weight' has shape \[4, 2\]; the model needs \[8\]"):
        load(tmp_path, tensors, params)
    assert not any(array.any() for array in params.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_nan_and_infinity(tmp_path, value, dtype):
    tensors = {name: t.astype(dtype) for name, t in random_tensors().items()}
    tensors["model.layers.0.self_attn.q_proj.weight"][3, 5] = value
    with pytest.raises(WeightError, match=rf"q_proj.weight' .*first at \[3, 5\]: {value}"):
        load(tmp_path, tensors)


# --- shards ---


def write_shards(folder, weight_map=None):
    tensors = random_tensors()
    names = list(tensors)
    parts = {"model-1.safetensors": names[:1], "model-2.safetensors": names[1:]}
    for file, members in parts.items():
        save_safetensors(folder / file, {name: tensors[name] for name in members})
    index = {name: file for file, members in parts.items() for name in members}
    text = json.dumps({"weight_map": index if weight_map is None else weight_map(index)})
    (folder / "model.safetensors.index.json").write_text(text)
    return tensors


def test_shards(tmp_path):
    tensors = write_shards(tmp_path)
    params = empty_params()
    with open_weights(tmp_path) as source:
        load_into(params, source, CONFIG)
        assert source.file("model.norm.weight").name == "model-2.safetensors"
    np.testing.assert_array_equal(params["embed.weight"], tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda index: {**index, "model.norm.weight": "model-3.safetensors"},
            "model-3.safetensors is missing",
        ),
        (lambda index: {**index, "model.norm.weight": "../model-1.safetensors"}, "of the same folder"),
        (lambda index: {}, "weight_map"),
        (lambda index: [1], "weight_map"),
        (lambda index: {"a": 1}, "weight_map"),
    ],
)
def test_wrong_index(tmp_path, change, says):
    write_shards(tmp_path, change)
    with pytest.raises(WeightError) as caught:
        open_weights(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"])
def test_an_index_that_misplaces_a_tensor_serves(tmp_path, name):
    """What counts is where tensors are; some files index buffers that were never written."""
    write_shards(tmp_path, lambda index: {**index, name: "model-1.safetensors"})
    with open_weights(tmp_path) as source:
        assert set(source.names()) == set(random_tensors())


def test_a_weight_in_two_shards(tmp_path):
    write_shards(tmp_path)
    again = random_tensors()
    save_safetensors(tmp_path / "model-2.safetensors", again)
    with open_weights(tmp_path) as source:  # the same values twice
        assert set(source.names()) == set(again)
    again[next(iter(again))].reshape(-1)[0] += 1
    save_safetensors(tmp_path / "model-2.safetensors", again)
    with pytest.raises(WeightError, match=r"is also in model-1.safetensors, with other values"):
        open_weights(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(WeightError, match="no such folder"):
        open_weights(tmp_path / "nowhere")
    with pytest.raises(WeightError, match=r"neither model.safetensors nor"):
        open_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(WeightError, match="save the model as safetensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n", "git lfs pull"),
     (b"<!DOCTYPE html><html>Not found</html>", "a web page"), (b"<html><body>", "a web page"),
     (b"PK\x03\x04 archive/data.pkl", "zip archive"), (b"\x1f\x8b\x08 packed", "gzip")],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "config.json", "x.gguf"]
)
def test_files_that_are_something_else(tmp_path, head, what, name):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(HybridAttnError, match=what) as caught:
        if name == "config.json":
            read_config(tmp_path / name)
        elif name == "x.gguf":
            open_gguf(tmp_path / name)
        else:
            open_weights(tmp_path)
    assert name in str(caught.value)


def test_a_write_through_a_mapped_view_ends_nothing(tmp_path):
    """Other libraries write to read-only arrays: the process goes on, and the file stays as it is."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(64)))
    script = (
        "import ctypes, sys, numpy as np\n"
        "from hybridattn.formats.mapped import MappedFile\n"
        "view = MappedFile(sys.argv[1]).view(np.uint8, 8, 16)\n"
        "assert not view.flags.writeable\n"
        "ctypes.memset(view.ctypes.data, 7, 16)\n"
        "print(view.tolist() == [7] * 16)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert path.read_bytes() == bytes(range(64))
