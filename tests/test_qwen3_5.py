"""Qwen3.5 text models beside transformers, where it is installed: logits, padding, decoding, gradients."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from golden import recipe

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(recipe.HERE))  # make_families runs as a script beside its recipe

from make_families import make  # noqa: E402

from hybridattn import _core  # noqa: E402
from hybridattn.families import cut_of  # noqa: E402
from hybridattn.formats.safetensors import open_weights, save_safetensors  # noqa: E402
from hybridattn.model.model import Model  # noqa: E402

pytestmark = pytest.mark.torch
LIMIT = 1e-5
# a small eps would magnify the rounding of heads that give nearly 0
BASE = dict(recipe.FAMILIES["qwen3_5"], num_hidden_layers=3, rms_norm_eps=1e-2)
BASE["layer_types"] = ["linear_attention", "full_attention", "linear_attention"]
ROPE = {"rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
CASES = {
    "shared keys": {},
    "as many keys": {"linear_num_key_heads": 4, "tie_word_embeddings": False},
    "one key head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
    "biases": {"attention_bias": True},
    "every fourth layer": {"layer_types": None, "num_hidden_layers": 4},
    "whole heads turn": {"rope_parameters": {**ROPE, "rope_type": "default", "partial_rotary_factor": 1.0}},
    "scaled": {
        "rope_parameters": {**ROPE, "rope_type": "linear", "factor": 4.0, "partial_rotary_factor": 0.25}
    },
}
TOKENS = recipe.tokens(BASE, (2, 70), seed=4)


def pair(name, tmp_path):
    """(transformers' model, ours) of a case."""
    theirs = make({**BASE, **CASES[name]}, "AutoModelForCausalLM", seed=5)
    with torch.no_grad():  # as torch sums a chunk in float32, larger weights cost it more than LIMIT
        for parameter in theirs.parameters():
            parameter.mul_(0.5 if parameter.ndim > 1 else 1.0)
    theirs.save_pretrained(tmp_path / "theirs")
    return theirs, Model.from_pretrained(tmp_path / "theirs")


def logits(model, tokens, **more):
    with torch.no_grad():
        return model(torch.tensor(tokens).long(), **more).logits.numpy()


def assert_near(found, expected, limit=LIMIT, what=""):
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * np.abs(expected).max(), err_msg=what)


@pytest.mark.parametrize("name", CASES)
def test_logits_padding_and_decoding(name, tmp_path):
    theirs, ours = pair(name, tmp_path)
    expected = logits(theirs, TOKENS)
    assert_near(ours.logits(TOKENS), expected)
    mask = np.ones(TOKENS.shape, np.int64)
    mask[0, :23] = 0
    padded = logits(theirs, TOKENS, attention_mask=torch.tensor(mask))
    found = ours.logits(TOKENS, mask=mask.astype(bool))
    assert_near(found[0, 23:], padded[0, 23:])
    assert_near(found[1], padded[1])
    cache = ours.cache(2)
    parts = [ours.logits(part, cache=cache) for part in np.split(TOKENS, [1, 40, 41, 42], axis=1)]
    assert_near(np.concatenate(parts, 1), expected)


@pytest.mark.parametrize("name", ["shared keys", "biases"])
def test_gradients_of_every_parameter(name, tmp_path):
    theirs, ours = pair(name, tmp_path)
    out = theirs(torch.tensor(TOKENS).long(), labels=torch.tensor(TOKENS).long())
    out.loss.backward()
    trainer = _core.Distiller(ours, None, "finetune", clip=1e9, micro_batch=2)
    windows = np.array([[[0, 70], [70, 140]]])
    [[loss]] = trainer.run(TOKENS.ravel(), windows, np.zeros((1, 2), np.float32), 0, 1)
    assert loss == pytest.approx(float(out.loss), rel=1e-5)
    gradients = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    for parameter, moment in trainer.moments()["m"].items():
        found = moment.numpy() / np.float32(0.1)  # AdamW's first moment after one step: (1 - .9) g
        cut = cut_of(ours.model_config, parameter)
        expected = np.empty_like(found)
        if cut.whole:
            expected[...] = gradients[cut.name]
        else:
            cut.take(gradients[cut.name], expected)
        assert_near(found, expected, 1e-4, parameter)


def test_saved_there_and_opened_there_again(tmp_path):
    theirs, ours = pair("shared keys", tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]
    assert_near(logits(again, TOKENS), logits(theirs, TOKENS))
    back = Model.from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(back.logits(TOKENS), ours.logits(TOKENS))


def test_16_bits_come_back_as_they_were(tmp_path):
    """A weight near 0 has more digits than the same with 1 added, so 1 is taken off before rounding."""
    theirs, _ = pair("shared keys", tmp_path)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name and "linear_attn" not in name:
                parameter.mul_(0.01)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    ours = Model.from_pretrained(tmp_path / "half")
    ours.save_pretrained(tmp_path / "again", dtype="bfloat16")
    with open_weights(tmp_path / "half") as a, open_weights(tmp_path / "again") as b:
        assert set(a.names()) == set(b.names())
        for name in a.names():
            np.testing.assert_array_equal(a.view(name), b.view(name), err_msg=name)


def test_the_text_part_of_a_model_of_text_and_images(tmp_path):
    """Its config holds the text model's, its names have another prefix, its other parts are left aside."""
    _, ours = pair("shared keys", tmp_path)
    text = json.loads((tmp_path / "theirs" / "config.json").read_text())
    outer = {"model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"]}
    outer |= {"text_config": text, "vision_config": {"depth": 1}, "image_token_id": 7}
    with open_weights(tmp_path / "theirs") as source:
        tensors = {
            name.replace("model.", "model.language_model.", 1): source.view(name) for name in source.names()
        }
        tensors["model.visual.patch_embed.proj.weight"] = np.ones((3, 3), np.float32)
        tensors["mtp.fc.weight"] = np.ones((3, 3), np.float32)
        (tmp_path / "both").mkdir()
        save_safetensors(tmp_path / "both" / "model.safetensors", tensors, {"format": "pt"})
    (tmp_path / "both" / "config.json").write_text(json.dumps(outer))
    model = Model.from_pretrained(tmp_path / "both")
    np.testing.assert_array_equal(model.logits(TOKENS), ours.logits(TOKENS))
    model.save_pretrained(tmp_path / "text")
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert type(opened).__name__ == "Qwen3_5ForCausalLM"
    assert_near(logits(opened, TOKENS), ours.logits(TOKENS))
