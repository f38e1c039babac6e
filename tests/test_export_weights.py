"""The arithmetic of an export: what a layout cannot say is worked into the weights."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import tiny
from export_models import GATED, hybrid

from hybridattn import errors
from hybridattn.export import constant, lengths, qwen3_5, qwen3_5_tensors
from hybridattn.export.weights import Weights
from hybridattn.formats.safetensors import open_weights
from hybridattn.model import Plan


@pytest.mark.parametrize(("dim", "heads"), [(8, 4), (64, 9), (128, 32), (12, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_constants_make_a_norm_do_nothing(dim, heads, dtype):
    padded = qwen3_5_tensors.padded_dim(dim)
    assert padded % 16 == 0 and 0 < padded - dim <= 16
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((2, heads, dim)) * scale for scale in (3.0, 0.7))
    longest = [float(np.linalg.norm(x, axis=-1).max()) for x in (q, k)]
    found = constant.choose(dim, padded, *longest, dtype, layer=0)
    kind = ml_dtypes.bfloat16
    for value in (found.query, found.key, found.query_weight - 1, found.key_weight - 1):
        assert float(np.array(value).astype(kind)) == value  # 8 bits, which every type holds

    def normed(x, c, weight):
        wide = np.concatenate([x, np.full((*x.shape[:-1], 1), c)], -1)
        return x / np.sqrt((wide**2).sum(-1, keepdims=True) / padded) * weight

    a, b = normed(q, found.query, found.query_weight), normed(k, found.key, found.key_weight)
    theirs, ours = (a * b).sum(-1) / np.sqrt(padded), (q * k).sum(-1) / np.sqrt(dim)
    share = np.abs(theirs / ours - 1).max()
    assert share <= found.error + 2e-7 and found.error <= constant.WANTED


def test_q_and_k_too_long_for_a_type_are_refused_with_the_figure(tmp_path):
    model = hybrid()
    model.arrays()["layers.1.softmax.q_proj.weight"][:] *= 1e4
    with pytest.raises(
        errors.ExportError, match=r"layer 1: q and k have lengths of up to .* largest for float16"
    ):
        model.export(tmp_path / "x", "qwen3_5", dtype="float16")
    assert list(tmp_path.iterdir()) == []
    assert model.export(tmp_path / "x", "qwen3_5", dtype="bfloat16").notes["constant_error"] < 1e-6


def test_lengths_are_those_of_the_model_on_the_text():
    model = hybrid(layers=5, keep=(0, 3))
    tokens = lengths.token_ids(model, tiny.TEXT[:100])
    assert len(tokens) == 100
    found = lengths.query_key_lengths(model, tokens)
    assert list(found) == [0, 3]
    inputs = dict(lengths.mixer_inputs(model, tokens, Weights(model)))
    for layer in (0, 3):
        for i, (part, heads) in enumerate((("q", 4), ("k", 2))):
            rows = inputs[layer] @ model.arrays()[f"layers.{layer}.softmax.{part}_proj.weight"].T
            longest = np.linalg.norm(rows.reshape(-1, heads, 8), axis=-1).max()
            np.testing.assert_allclose(found[layer][i], longest, rtol=1e-6)
    teacher = tiny.teacher(layers=5)
    assert [i for i, _ in lengths.mixer_inputs(teacher, tokens, Weights(teacher))] == [0, 1, 2, 3, 4]


def test_the_stream_of_single_layers_ends_in_the_models_own_hidden_states():
    """Of a model whose final norm is that of the layer asked for."""
    model = hybrid(keep=(2,), tied=False)
    tokens = lengths.token_ids(model, None)
    inputs = dict(lengths.mixer_inputs(model, tokens, Weights(model)))
    # a model of the first two layers whose final norm is the third's
    two = tiny.teacher(layers=2, tied=False).to_probe(GATED).to_hybrid([])
    for name, array in two.arrays().items():
        array[...] = model.arrays()["layers.2.mixer_norm.weight" if name == "final_norm.weight" else name]
    np.testing.assert_allclose(
        inputs[2], two.hidden(tokens[None])[0], rtol=0, atol=2e-5 * np.abs(inputs[2]).max()
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_small_norm_weights_survive_less_1_in_16_bits(dtype):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    weight = np.array([1.0, 0.05, -0.3, 1e-5, 0.0, 3.3], np.float32)
    read, columns = qwen3_5_tensors._norm(weight, dtype)
    np.testing.assert_array_equal((read - 1).astype(kind).astype(np.float32) + 1, read)
    np.testing.assert_allclose(read * columns, weight, rtol=1e-6)
    read, columns = qwen3_5_tensors._norm(weight, "float32")
    assert read is weight and columns is None


@pytest.mark.parametrize("padded", range(16, 320, 16))
def test_the_share_of_a_head_that_turns_is_exact(padded):
    for dim in range(padded - 16, padded, 2):
        if dim:
            assert int(padded * qwen3_5.share(dim, padded)) == dim
            assert sum(qwen3_5.sections(dim // 2)) == dim // 2


def test_the_checkpoint_of_a_hybrid(tmp_path):
    model = hybrid({**GATED, "conv": 3}, keep=(0, 2), tied=False)
    result = model.export(tmp_path / "out", "qwen3_5", dtype="bf16", text=tiny.TEXT)
    assert result.dtype == "bfloat16" and result.notes["padded_head_dim"] == [8, 16]
    assert set(result.files) == {p.name for p in (tmp_path / "out").iterdir()}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "qwen3_5_text" and config["head_dim"] == 16
    assert config["layer_types"] == ["full_attention", "linear_attention", "full_attention"]
    assert config["rope_parameters"]["partial_rotary_factor"] == 0.5
    with open_weights(tmp_path / "out") as source:
        shapes = {name: source.shape(name) for name in source.names()}
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (4 * 2 * 16, 32)
    assert shapes["model.layers.0.self_attn.o_proj.weight"] == (32, 4 * 16)
    assert shapes["model.layers.1.linear_attn.conv1d.weight"] == (3 * 32, 1, 4)
    assert shapes["model.layers.1.linear_attn.in_proj_qkv.weight"] == (3 * 32, 32)
    mlp_and_norms, softmax, linear = 5, 10, 9
    assert len(shapes) == 3 + 3 * mlp_and_norms + 2 * softmax + linear


def test_a_stored_model_is_exported_as_what_it_stands_for(tmp_path):
    model = hybrid(intermediate_size=64)
    stored = model.astype("q8_0")
    constants = {1: constant.choose(8, 16, 5.0, 5.0, "float32", 1)}
    plain = dict(qwen3_5_tensors.tensors(stored, constants, 4))
    back = dict(qwen3_5_tensors.tensors(stored.astype("float32"), constants, 4))
    for name, array in plain.items():
        np.testing.assert_array_equal(array, back[name], err_msg=name)
    assert model.astype("bfloat16").export(tmp_path / "a", "qwen3_5").dtype == "bfloat16"
    assert model.astype("q8_0").export(tmp_path / "b", "qwen3_5").dtype == "float32"


def test_a_card_says_what_a_folder_is(tmp_path):
    model = hybrid(layers=5, keep=(0, 3))
    model.model_config.hf["_name_or_path"] = "someone/small-llama"
    model.export(tmp_path / "out", "qwen3_5")
    text = (tmp_path / "out" / "README.md").read_text()
    header = pytest.importorskip("yaml").safe_load(text.split("---")[1])
    assert header["base_model"] == "someone/small-llama" and header["library_name"] == "transformers"
    assert "license" not in header and "# license" in text  # the user's to fill in
    assert "| gated_delta layers | 1 to 2, 4 |" in text and "| softmax layers | 0, 3 |" in text
    assert "| layout | qwen3_5 |" in text and "constant error" in text
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": tiny.EOS}


def test_a_saved_model_has_a_card_and_a_users_own_one_stays(tmp_path):
    model = hybrid()
    model.model_config.hf["_name_or_path"] = "/home/me/models/x"  # no business of the hub's
    model.plan = Plan((1,), 3, "kl_replace", {}, {"text": "recall", "scores": [1, 2, 3]})
    model.save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    text = card.read_text()
    assert "library_name: hybridattn" in text and "base_model" not in text and "/home" not in text
    assert "| softmax layers chosen by | kl_replace |" in text and "| chosen by: text | recall |" in text
    tiny.teacher().save_pretrained(tmp_path)
    assert "library_name: transformers" in card.read_text()
    card.write_text("# mine")
    model.save_pretrained(tmp_path)
    assert card.read_text() == "# mine"
