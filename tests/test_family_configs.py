"""config.json of every family: what its keys mean, and what is refused because it cannot be computed."""

from __future__ import annotations

import json
import warnings

import pytest
from golden import recipe

from hybridattn.errors import ConfigError
from hybridattn.families import config_from_hf

WINDOWS_FROM_1 = {
    "use_sliding_window": True,
    "sliding_window": 8,
    "max_window_layers": 1,
    "layer_types": None,
}


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        (
            "qwen2",
            WINDOWS_FROM_1,
            "a window in all layers",
        ),
        (
            "qwen2",
            {
                "use_sliding_window": True,
                "sliding_window": 8,
                "layer_types": ["full_attention", "sliding_attention"],
            },
            "1 of 2 have one",
        ),
        ("qwen2", {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2}, "layer_types"),
        ("qwen3", {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types"),
        ("qwen2", {"is_causal": False}, "is_causal"),
        ("gpt2", {"is_causal": False}, "is_causal"),
        ("bert", {"is_causal": True}, "is_causal"),
        ("gpt_neox", {"rope_theta": 7.0}, "rope_theta"),
        ("gpt_neox", {"partial_rotary_factor": 1.0}, "partial_rotary_factor"),
        ("qwen2", {"hidden_act": "gelu"}, "hidden_act"),
        ("mistral", {"sliding_window": 0}, "sliding_window"),
        ("mistral", {"num_key_value_heads": 3}, "num_key_value_heads"),
        (
            "qwen3",
            WINDOWS_FROM_1,
            "a window in all layers",
        ),
        ("qwen3", {"head_dim": 7}, "head_dim"),
        ("gpt2", {"activation_function": "quick_gelu"}, "activation_function"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"n_head": 5}, "n_embd"),
        ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 1.5}}, "partial_rotary_factor"),
        ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 0.125}}, "partial_rotary_factor"),
        ("gpt_neox", {"use_parallel_residual": 2}, "use_parallel_residual"),
        ("gpt_neox", {"hidden_act": "tanh"}, "hidden_act"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention"),
        ("bert", {"hidden_act": "mish"}, "hidden_act"),
        ("bert", {"type_vocab_size": 0}, "type_vocab_size"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("roberta", {"hidden_act": "relu"}, "hidden_act"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings"),
        ("distilbert", {"n_heads": 3}, "dim"),
        ("distilbert", {"activation": None}, "activation"),
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


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("gpt2", {"num_attention_heads": 2, "n_head": 12}, {"n_head": 2}),
        ("gpt2", {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 9},
         {"n_embd": 16, "n_layer": 1, "n_positions": 9}),
        ("distilbert", {"num_attention_heads": 2, "n_heads": 1}, {"n_heads": 2}),
        ("distilbert", {"hidden_size": 24, "num_hidden_layers": 1}, {"dim": 24, "n_layers": 1}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 99}, {}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, {}),
        ("qwen2", {"sliding_window": 8, "layer_types": ["full_attention"] * 2}, {}),
        ("qwen2", {"mlp_bias": True, "attention_bias": False}, {}),
        ("qwen3", {"mlp_bias": True}, {}),
        ("mistral", {"mlp_bias": True, "attention_bias": True}, {}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8}, {}),
        ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 99, "rope_parameters": None},
         {"rope_parameters": {"rope_theta": 99, "partial_rotary_factor": 0.5}}),
        ("gpt_neox", {"rotary_emb_base": 99, "rope_parameters": {"rope_theta": 7.0}},
         {"rope_parameters": {"rope_theta": 7.0}}),
        ("mistral", {"pretraining_tp": 4}, {}),
    ],
)  # fmt: skip
def test_what_other_names_and_settings_mean(name, change, same):
    """As transformers 5.24 reads them (GPT2Config.attribute_map and the like)."""
    hf = json.loads((recipe.FAMILY_MODELS / name / "config.json").read_text())
    assert config_from_hf({**hf, **change}) == config_from_hf({**hf, **same})


def test_a_window_of_all_layers_is_one():
    hf = json.loads((recipe.FAMILY_MODELS / "qwen2" / "config.json").read_text())
    window = {**WINDOWS_FROM_1, "max_window_layers": 0}
    assert config_from_hf({**hf, **window}).sliding_window == 8


@pytest.mark.parametrize("key", ["attention_temperature", "use_magic", "rope_everywhere"])
def test_unknown_keys_are_named(key):
    hf = json.loads((recipe.FAMILY_MODELS / "qwen3" / "config.json").read_text())
    with pytest.warns(UserWarning, match=f"not known here: {key};"):
        config_from_hf({**hf, key: 2})


@pytest.mark.parametrize("name", sorted(p.name for p in recipe.FAMILY_MODELS.iterdir() if p.is_dir()))
def test_configs_of_transformers_hold_no_unknown_key(name):
    hf = json.loads((recipe.FAMILY_MODELS / name / "config.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config_from_hf(hf)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "mistral", "qwen2"])
def test_the_first_id_beyond_the_vocabulary(name):
    hf = json.loads((recipe.FAMILY_MODELS / name / "config.json").read_text())
    size = hf["vocab_size"]
    with pytest.warns(UserWarning, match=str(size)):
        config = config_from_hf({**hf, "bos_token_id": size, "eos_token_id": size})
    assert config.bos_token_id is None and config.eos_token_ids == ()
    config = config_from_hf({**hf, "bos_token_id": size - 1, "eos_token_id": size - 1})
    assert config.bos_token_id == size - 1 and config.eos_token_ids == (size - 1,)


@pytest.mark.parametrize(
    ("key", "value", "bos", "eos"),
    [("bos_token_id", 10**6, None, None), ("eos_token_id", [1, 10**6, 1], None, (1,)),
     ("eos_token_id", -1, None, ()),
     ("eos_token_id", [], None, ())],
)  # fmt: skip
def test_ids_that_cannot_come_up(key, value, bos, eos):
    hf = json.loads((recipe.FAMILY_MODELS / "qwen3" / "config.json").read_text())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = config_from_hf({**hf, key: value})
    if key == "bos_token_id":
        assert config.bos_token_id is bos
    else:
        assert config.eos_token_ids == eos
    assert len(caught) == (value != [])
