"""Every family equals transformers on the models in golden/families, and refuses what it cannot compute."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden import recipe
from test_golden import assert_close

from hybridattn import Model
from hybridattn.errors import ConfigError
from hybridattn.families import config_from_hf


def golden(name):
    with np.load(recipe.FAMILY_MODELS / name / "golden.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", recipe.FAMILIES)
def test_logits_and_hidden_states(name):
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    tokens, expected = recipe.tokens(recipe.FAMILIES[name], (2, 40), seed=3), golden(name)
    assert_close(model.logits(tokens), expected["logits"], what="logits")
    assert_close(model.hidden(tokens), expected["hidden"], what="hidden states")


@pytest.mark.parametrize("name", recipe.FAMILIES)
def test_saved_and_loaded_again(name, tmp_path):
    """Under the family's own names, as a teacher and as a hybrid."""
    model = Model.from_pretrained(recipe.FAMILY_MODELS / name)
    tokens = recipe.tokens(recipe.FAMILIES[name], (1, 30), seed=5)
    model.save_pretrained(tmp_path / "teacher")
    assert json.loads((tmp_path / "teacher/config.json").read_text())["model_type"] == name
    assert np.array_equal(Model.from_pretrained(tmp_path / "teacher").logits(tokens), model.logits(tokens))
    hybrid = model.to_probe({"kind": "window_linear", "window": 8, "sinks": 2}).to_hybrid([1])
    hybrid.save_pretrained(tmp_path / "hybrid")
    again = Model.from_pretrained(tmp_path / "hybrid")
    assert again.model_config == model.model_config
    assert np.array_equal(again.logits(tokens), hybrid.logits(tokens))


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("qwen2", {"hidden_act": "gelu"}, "hidden_act"),
        ("mistral", {"sliding_window": 0}, "sliding_window"),
        ("mistral", {"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_refused(name, change, field):
    hf = json.loads((recipe.FAMILY_MODELS / name / "config.json").read_text())
    with pytest.raises(ConfigError, match=field):
        config_from_hf({**hf, **change})


def test_mistral_without_a_window_sees_everything():
    hf = json.loads((recipe.FAMILY_MODELS / "mistral" / "config.json").read_text())
    assert config_from_hf({**hf, "sliding_window": None}).sliding_window == 0
    del hf["sliding_window"]
    assert config_from_hf(hf).sliding_window == 4096
