"""Weight files: what is read back is what was written, into parameters of the right names and shapes."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from weight_files import CONFIG, empty_params, load, random_tensors

from hybridattn.errors import HybridAttnError, WeightError
from hybridattn.families import hf_name
from hybridattn.formats.gguf import open_gguf
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights, save_safetensors
from hybridattn.model.saved import read_config

BF16 = ml_dtypes.bfloat16


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
