"""GGUF files of architecture qwen35: hybrids and models of the family come back as what they were."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from test_export_llama_cpp import HYBRIDS, model_of
from test_qwen3_5_prune import HF

from hybridattn import errors
from hybridattn.families import config_from_hf
from hybridattn.formats.gguf_header import open_header
from hybridattn.formats.gguf_qwen35 import linear_order
from hybridattn.model import Model

gguf = pytest.importorskip("gguf")
try:
    import llama_cpp
except (ImportError, OSError, RuntimeError):
    llama_cpp = None
needs_llama = pytest.mark.skipif(llama_cpp is None, reason="llama-cpp-python is not installed")

TOKENS = np.random.default_rng(1).integers(1, 256, 60).astype(np.int32)
BACK = list(HYBRIDS)
FAMILY = {
    "shared keys": {},
    "as many keys": {"linear_num_key_heads": 4, "tie_word_embeddings": False},
    "one key head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
    "whole heads turn": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "partial_rotary_factor": 1.0}
    },
    "linear": {
        "rope_parameters": {
            "rope_type": "linear",
            "factor": 2.0,
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.25,
        }
    },
}


def near(found, expected, limit=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * np.abs(expected).max())


def family(name) -> Model:
    model = Model(config_from_hf({**HF, **FAMILY[name]}))
    tiny.randomize(model, 3)
    for parameter, array in model.arrays().items():
        if "A_log" in parameter or "dt_bias" in parameter:
            array -= 1.5
    return model


@pytest.mark.parametrize("name", BACK)
def test_a_hybrid_comes_back(name, tmp_path):
    mixer, teacher = HYBRIDS[name]
    model = model_of((1, 2), mixer, **teacher)
    model.export(tmp_path / "out", "gguf")
    back = Model.from_pretrained(tmp_path / "out" / "model.gguf")
    assert [specs[0]["kind"] for specs in back.layers] == [specs[0]["kind"] for specs in model.layers]
    assert back.model_config.family == model.model_config.family
    wide = {key: value for key, value in mixer.items() if key not in ("grouped", "output_gate")}
    written = model_of((1, 2), wide, **teacher)  # what is lean is written with its rows repeated
    assert back.arrays().keys() == written.arrays().keys()
    near(back.logits(TOKENS[None]), model.logits(TOKENS[None]))
    assert back.tokenizer.encode("mill") == model.tokenizer.encode("mill")


@pytest.mark.parametrize("name", FAMILY)
def test_a_model_of_the_family_comes_back(name, tmp_path):
    model = family(name)
    model.export(tmp_path / "out", "gguf")
    back = Model.from_pretrained(tmp_path / "out" / "model.gguf")
    assert back.model_config.family == "qwen3_5" and back.layers == model.layers
    for parameter, array in model.arrays().items():
        np.testing.assert_allclose(back.arrays()[parameter], array, rtol=0, atol=1e-6, err_msg=parameter)
    near(back.logits(TOKENS[None]), model.logits(TOKENS[None]))
    again = back.to_probe({"kind": "gated_delta"})
    near(again.logits(TOKENS[None]), model.logits(TOKENS[None]))


@needs_llama
@pytest.mark.parametrize("name", FAMILY)
def test_llama_cpp_computes_the_same(name, tmp_path):
    model = family(name)
    model.export(tmp_path / "out", "gguf")
    theirs = llama_cpp.Llama(
        str(tmp_path / "out" / "model.gguf"),
        n_ctx=128,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        type_k=0,
        type_v=0,
        verbose=False,
    )
    for part in np.split(TOKENS, [40, 41, 42]):
        theirs.eval([int(token) for token in part])
    near(np.array(theirs.scores[: len(TOKENS)])[None], model.logits(TOKENS[None]), 1e-4)


@pytest.mark.parametrize("dtype", ["q8_0", "bfloat16"])
def test_blocks_are_kept_as_they_lie(dtype, tmp_path):
    model = family("shared keys")
    model.export(tmp_path / "out", "gguf", dtype=dtype)
    kept, read = (
        Model.from_pretrained(tmp_path / "out" / "model.gguf", dtype=d) for d in ("auto", "float32")
    )
    kinds = {name: kind for name, (kind, _) in kept.stored().items()}
    for part in ("softmax.q_proj", "softmax.g_proj"):
        assert kinds[f"layers.1.{part}.weight"] == dtype
    for part in ("q_proj", "v_proj", "g_proj"):
        assert kinds[f"layers.0.gated_delta.{part}.weight"] == dtype
    np.testing.assert_array_equal(kept.logits(TOKENS[None]), read.logits(TOKENS[None]))


def test_the_order_of_heads_goes_both_ways():
    """llama.cpp's: the first head of every key head, then the second of every one."""
    values = np.arange(6 * 2.0)[:, None]  # 6 heads of 2 channels, 3 for each of 2 key heads
    name = "model.layers.0.linear_attn.in_proj_z.weight"
    there = linear_order(name, values, (6, 2, 2))
    assert there[::2, 0].tolist() == [0, 6, 2, 8, 4, 10]
    np.testing.assert_array_equal(linear_order(name, there, (6, 2, 2), back=True), values)


def damaged(path, changes, more=()):
    """The file with other values of keys, None to leave one out, and more tensors of zeros."""
    header = open_header(path)
    writer = gguf.GGUFWriter(str(path.with_name("wrong.gguf")), "qwen35")
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in {**header.metadata, **changes}.items():
        if value is not None and key not in ("general.architecture", "GGUF.version"):
            (writer.add_array if isinstance(value, list) else kinds[type(value)])(key, value)
    for tensor in gguf.GGUFReader(path).tensors:
        writer.add_tensor(tensor.name, tensor.data)
    for name in more:
        writer.add_tensor(name, np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_name("wrong.gguf")


WRONG = {
    "ssm.state_size": (0, "ssm.state_size"),
    "ssm.inner_size": (7, "time_step_rank"),
    "attention.recurrent_layers": ([True], "recurrent_layers"),
    "rope.dimension_count": (99, "rope.dimension_count"),
    "ssm.group_count": (3, "linear_num_key_heads"),
    "nextn_predict_layers": (5, "nextn_predict_layers"),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_is_wrong_is_named(key, tmp_path):
    value, message = WRONG[key]
    family("shared keys").export(tmp_path / "out", "gguf")
    path = damaged(tmp_path / "out" / "model.gguf", {f"qwen35.{key}": value})
    with pytest.raises(errors.ConfigError, match=message):
        Model.from_pretrained(path)


def test_blocks_that_guess_ahead_are_left_aside(tmp_path):
    """As llama.cpp's converter writes them, behind the model's own layers."""
    model = family("shared keys")
    model.export(tmp_path / "out", "gguf")
    keys = {"block_count": 6, "nextn_predict_layers": 1, "full_attention_interval": 4}
    keys["attention.recurrent_layers"] = [specs[0]["kind"] != "softmax" for specs in model.layers] + [False]
    path = damaged(
        tmp_path / "out" / "model.gguf",
        {f"qwen35.{key}": value for key, value in keys.items()},
        ("blk.5.nextn.eh_proj.weight", "blk.5.attn_q.weight"),
    )
    back = Model.from_pretrained(path)
    assert back.layers == model.layers
    near(back.logits(TOKENS[None]), model.logits(TOKENS[None]))


def test_every_fourth_layer_is_softmax_where_the_file_says_how_many(tmp_path):
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    model = Model(config_from_hf({**HF, "num_hidden_layers": 4, "layer_types": kinds}))
    tiny.randomize(model, 3)
    model.export(tmp_path / "out", "gguf")
    changes = {"qwen35.attention.recurrent_layers": None, "qwen35.full_attention_interval": 4}
    path = damaged(tmp_path / "out" / "model.gguf", changes)
    assert Model.from_pretrained(path).layers == model.layers
    with pytest.raises(errors.ConfigError, match="full_attention_interval is 0"):
        Model.from_pretrained(
            damaged(path.with_name("model.gguf"), {**changes, "qwen35.full_attention_interval": 0})
        )
