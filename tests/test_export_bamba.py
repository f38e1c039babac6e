"""Layout `bamba`: what it refuses, and the shapes of what it writes. test_export_transformers runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from export_models import QWEN2, QWEN3
from safetensors.numpy import load_file

from hybridattn.errors import ExportError
from hybridattn.export import export, fits

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
