"""Layouts of other programs: what fits and what is refused. What the programs make of the files is checked in
test_export_transformers.py and test_export_llama_cpp.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from export_models import GATED, QWEN2, QWEN3, hybrid, reasons

from hybridattn import errors
from hybridattn.families.config import TaskHead


@pytest.mark.parametrize(
    ("teacher", "mixer", "keep", "says"),
    [
        ({}, GATED, (1,), None),
        ({"tied": False}, {**GATED, "conv": 3}, (0, 2), None),
        ({}, GATED, (0, 1, 2), None),
        ({"attention_bias": True}, {**GATED, "bias": 0}, (1,), None),
        (QWEN2, {**GATED, "bias": 0}, (1,), None),
        (QWEN3, {**GATED, "qk_norm": 0}, (1,), None),
        (QWEN2, GATED, (1,), "layers 0, 2: gated_delta has biases on q, k and v"),
        (QWEN3, GATED, (1,), "layers 0, 2: gated_delta norms q and k before silu"),
        ({"attention_bias": True}, GATED, (1,), "layers 0, 2: gated_delta has a bias on its output"),
        ({}, {**GATED, "rope": 1}, (2,), "layers 0 to 1: gated_delta rotates q and k"),
        ({}, {**GATED, "silu": 0}, (1,), "gated_delta has no silu"),
        ({}, {"kind": "gla"}, (1,), "layers 0, 2: gla has no place in a Qwen3.5 model"),
        ({}, GATED, (), "it has no softmax layer"),
        ({"mlp_bias": True}, GATED, (1,), "mlp_bias"),
        (
            {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16},
            GATED,
            (1,),
            "layer 1: its softmax sees a window of 16 tokens",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, GATED, (1,), None),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, GATED, (1,), "rope_type is 'dynamic'"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}},
            GATED,
            (1,),
            "attention_factor of yarn is 1.5",
        ),
    ],
)
def test_what_qwen3_5_holds(teacher, mixer, keep, says, tmp_path):
    model = hybrid(mixer, keep, **teacher)
    found = "; ".join(reasons(model, "qwen3_5"))
    assert (found == "") if says is None else (says in found)
    if says is None:
        model.export(tmp_path / "out", "qwen3_5")
        return
    with pytest.raises(errors.ExportError, match="layout qwen3_5 does not hold this model"):
        model.export(tmp_path / "out", "qwen3_5")
    assert list(tmp_path.iterdir()) == []


def test_a_probe_an_encoder_and_a_classifier_are_refused():
    probe = tiny.teacher().to_probe(GATED)
    assert reasons(probe, "qwen3_5")[0].startswith("layers 0 to 2: holds softmax and gated_delta")
    assert "bidirectional" in reasons(tiny.teacher(bidirectional=True), "qwen3_5")[0]
    classifier = tiny.teacher().with_task(TaskHead(kind="classify"))
    assert "head of a task (classify)" in reasons(classifier, "sliding_window")[0]


@pytest.mark.parametrize(
    ("teacher", "mixer", "says"),
    [
        ({}, {"kind": "window", "window": 16, "sinks": 0}, None),
        ({}, {"kind": "window", "window": 16, "sinks": 2}, "layers 0, 2: window has 2 sinks"),
        ({}, GATED, "layers 0, 2: gated_delta has no place in a model of windows"),
        ({"attention_bias": True}, {"kind": "window", "sinks": 0}, "bias on the output"),
        (
            {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16},
            {"kind": "window", "window": 8, "sinks": 0},
            "windows are [8, 16] tokens wide",
        ),
    ],
)
def test_what_sliding_window_holds(teacher, mixer, says):
    found = "; ".join(reasons(hybrid(mixer, **teacher), "sliding_window"))
    assert (found == "") if says is None else (says in found)


def test_a_refusal_says_what_would_hold_the_model(tmp_path):
    model = hybrid({"kind": "window", "window": 16, "sinks": 0})
    with pytest.raises(errors.ExportError, match=r"layouts that hold this model: .*sliding_window"):
        model.export(tmp_path / "x", "qwen3_5")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "onnx"}, "layout is 'onnx'; allowed: qwen3_5"),
        ({"dtype": "q8_0"}, "dtype is 'q8_0'; allowed: float32, bfloat16, float16"),
        ({"text": np.zeros((2, 2), np.int32)}, "text has the shape"),
        ({"text": [3, 257]}, "token id 257"),
        ({"text": [0.5]}, "allowed: token ids"),
    ],
)
def test_wrong_options(options, says, tmp_path):
    with pytest.raises(errors.HybridAttnError, match=says):
        hybrid().export(tmp_path / "x", **{"layout": "qwen3_5", **options})
    assert list(tmp_path.iterdir()) == []
