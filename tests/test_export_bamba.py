"""Layout `bamba`: what it refuses, and the shapes of what it writes. test_export_transformers runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from export_models import QWEN2, QWEN3
from safetensors.numpy import load_file

from hybridattn.errors import ConfigError, ExportError
from hybridattn.export import export, fits
from hybridattn.formats.safetensors import save_safetensors
from hybridattn.model import Model

MAMBA = {"kind": "mamba2"}


def hybrid(mixer=MAMBA, **changes):
    return tiny.teacher(**changes).to_probe(mixer).to_hybrid([1])


REFUSED = {
    "rope": (hybrid, {"mixer": {**MAMBA, "rope": 1}}, "layers 0, 2: mamba2 rotates q and k"),
    "silu": (hybrid, {"mixer": {**MAMBA, "silu": 0}}, "layers 0, 2: mamba2 has no silu"),
    "biases": (hybrid, {"attention_bias": True}, "layers 0, 2: mamba2 has biases on its projections"),
    "qwen2": (hybrid, QWEN2, "layers 0, 2: mamba2 has biases on its projections"),
    "qwen3": (hybrid, QWEN3, "norms q and k"),
    "other mixer": (hybrid, {"mixer": {"kind": "gla"}}, "layers 0, 2: gla has no place in a Bamba model"),
    "narrow heads": (hybrid, {"head_dim": 4}, "its heads have 16 channels"),
    "probe": (lambda: tiny.teacher().to_probe(MAMBA), {}, "layers 0 to 2: holds softmax and mamba2"),
    "window": (
        hybrid,
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16},
        "layer 1: its softmax sees a window of 16 tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, tmp_path):
    make, options, reason = REFUSED[name]
    with pytest.raises(ExportError, match="layout bamba does not hold this model") as error:
        export(make(**options), tmp_path / "out", layout="bamba")
    assert reason in str(error.value)
    assert not list(tmp_path.iterdir())


def test_rows_and_taps(tmp_path):
    model = hybrid({**MAMBA, "conv": 2})
    assert fits(model)["bamba"] == []
    model.arrays()["layers.0.mamba2.k_conv.weight"][...] = [[3.0, 5.0]]
    export(model, tmp_path / "out", layout="bamba")
    found, ours = load_file(tmp_path / "out" / "model.safetensors"), model.arrays()
    before = "model.layers.0.mamba."
    rows = found[before + "in_proj.weight"]
    assert rows.shape == (4 * 32 + 4, 32)
    for i, part in enumerate("gvkq"):  # gate, then x, B, C
        np.testing.assert_array_equal(
            rows[32 * i : 32 * (i + 1)], ours[f"layers.0.mamba2.{part}_proj.weight"]
        )
    np.testing.assert_array_equal(rows[128:], ours["layers.0.mamba2.a_proj.weight"])
    taps = found[before + "conv1d.weight"]
    assert taps.shape == (96, 1, 4)
    assert (taps[32:64, 0] == [0, 0, 3, 5]).all() and (taps[:32, 0] == [0, 0, 0, 1]).all()
    assert not found[before + "D"].any()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["attn_layer_indices"] == [1] and config["mamba_n_groups"] == 4
    assert config["rope_parameters"]["partial_rotary_factor"] == 1.0


PLAIN = {**MAMBA, "bias": 0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BACK = {
    "llama": {},
    "convolution": {"mixer": {**MAMBA, "conv": 5}, "tied": False},
    "biases": {"mixer": PLAIN, "attention_bias": True, "mlp_bias": True},
    "qwen2": {"mixer": PLAIN, **QWEN2},
    "wide heads": {"head_dim": 16},
    "yarn": {"rope_scaling": YARN},
}
TOKENS = np.random.default_rng(1).integers(0, 256, (2, 60)).astype(np.int32)


@pytest.mark.parametrize("name", BACK)
def test_a_hybrid_comes_back(name, tmp_path):
    model = hybrid(**BACK[name])
    rng = np.random.default_rng(3)
    for parameter, array in model.arrays().items():
        if "_conv." in parameter or parameter.endswith(".bias"):
            array[...] = 0.5 * rng.standard_normal(array.shape)
    model.export(tmp_path / "out", "bamba")
    back = Model.from_pretrained(tmp_path / "out")
    assert back.layers == model.layers
    assert back.model_config.family == model.model_config.family
    assert back.arrays().keys() == model.arrays().keys()
    for parameter, array in model.arrays().items():
        np.testing.assert_array_equal(back.arrays()[parameter], array, err_msg=parameter)
    np.testing.assert_array_equal(back.logits(TOKENS), model.logits(TOKENS))


WRONG = {
    "mamba_n_groups": (1, "mamba_n_groups is 1; allowed: 4"),
    "mamba_d_state": (32, "mamba_d_state"),
    "mamba_conv_bias": (True, "mamba_conv_bias"),
    "attn_layer_indices": ([9], "attn_layer_indices"),
    "num_attention_heads": (0, "num_attention_heads"),
}


@pytest.mark.parametrize("key", WRONG)
def test_bamba_models_of_other_makes_are_refused(key, tmp_path):
    value, message = WRONG[key]
    hybrid().export(tmp_path / "out", "bamba")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ConfigError, match=message):
        Model.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("name", ["D", "norm.weight"])
def test_weights_of_other_makes_are_refused(name, tmp_path):
    hybrid().export(tmp_path / "out", "bamba")
    path = tmp_path / "out" / "model.safetensors"
    tensors = load_file(path)
    tensors[f"model.layers.2.mamba.{name}"][-1] += 1
    save_safetensors(path, tensors, {"format": "pt"})
    with pytest.raises(ConfigError, match=f"layers.2.mamba.{name}.*hybrid that hybridattn export wrote"):
        Model.from_pretrained(tmp_path / "out")
