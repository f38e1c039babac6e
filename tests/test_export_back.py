"""Hybrids that were exported as Qwen3.5 models come back through `from_pretrained`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from export_models import GATED, QWEN2, QWEN3, hybrid

from hybridattn import errors
from hybridattn.formats.safetensors import open_weights, save_safetensors
from hybridattn.model import Model

PLAIN = {**GATED, "bias": 0, "qk_norm": 0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
CASES = {
    "llama": (GATED, {}),
    "untied, convolution": ({**GATED, "conv": 5}, {"tied": False}),
    "yarn": (GATED, {"rope_scaling": YARN}),
    "biases": (PLAIN, {"attention_bias": True}),
    "qwen2": (PLAIN, QWEN2),
    "qwen3": (PLAIN, QWEN3),
    "qwen3 biases": (PLAIN, {**QWEN3, "attention_bias": True}),
}
TOKENS = np.random.default_rng(1).integers(0, 256, (2, 60)).astype(np.int32)


@pytest.mark.parametrize("name", CASES)
def test_a_hybrid_comes_back(name, tmp_path):
    mixer, teacher = CASES[name]
    model = hybrid(mixer, (1,), **teacher)
    rng = np.random.default_rng(3)
    for parameter, array in model.arrays().items():
        if "_conv." in parameter or parameter.endswith(".bias"):
            array[...] = 0.5 * rng.standard_normal(array.shape)
    model.export(tmp_path / "out", "qwen3_5")
    back = Model.from_pretrained(tmp_path / "out")
    assert [specs[0]["kind"] for specs in back.layers] == [specs[0]["kind"] for specs in model.layers]
    mine, found = model.arrays(), back.arrays()
    assert mine.keys() == found.keys()
    for parameter, array in mine.items():  # norms are stored less 1, all else to the bit
        exact = "norm" not in parameter or ".gated_delta.norm" in parameter
        np.testing.assert_allclose(found[parameter], array, rtol=0 if exact else 3e-7, err_msg=parameter)
    ours = model.logits(TOKENS)
    np.testing.assert_allclose(back.logits(TOKENS), ours, rtol=0, atol=1e-5 * np.abs(ours).max())
    assert back.tokenizer.encode("mill") == model.tokenizer.encode("mill")
    again = back.export(tmp_path / "again", "qwen3_5")
    assert again.notes.get("constants") == json.loads(
        (tmp_path / "out" / "hybridattn_export.json").read_text()
    )["notes"].get("constants")


def test_what_is_no_exported_hybrid_is_a_qwen3_5_model(tmp_path):
    out = tmp_path / "out"
    model = hybrid()
    model.export(out, "qwen3_5")
    config = json.loads((out / "config.json").read_text())
    for key, value in {"layer_types": ["sliding_attention"], "head_dim": 0}.items():
        (out / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(errors.ConfigError, match=f"{key} is"):
            Model.from_pretrained(out)
    (out / "config.json").write_text(json.dumps({**config, "linear_num_value_heads": 8}))
    with pytest.raises(errors.WeightError, match="in_proj_qkv"):
        Model.from_pretrained(out)
    (out / "config.json").write_text(json.dumps(config))
    with open_weights(out) as source:
        tensors = {name: np.empty(source.shape(name), np.float32) for name in source.names()}
        for name, array in tensors.items():
            source.read_into(name, array)
    tensors["model.layers.1.self_attn.q_proj.weight"][-1, 0] = 1e-9  # a gate that is all but closed off
    save_safetensors(out / "model.safetensors", tensors)
    back, ours = Model.from_pretrained(out), model.logits(TOKENS)
    assert back.model_config.family == "qwen3_5"
    np.testing.assert_allclose(back.logits(TOKENS), ours, rtol=0, atol=1e-5 * np.abs(ours).max())
