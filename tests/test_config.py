"""Configurations: what a Hugging Face config.json becomes, and what is refused."""

import json
import math
import warnings

import numpy as np
import pytest

from hybridattn.errors import ConfigError
from hybridattn.families import config_from_hf, hf_name
from hybridattn.families.config import ModelConfig
from hybridattn.families.rope import rope_frequencies
from hybridattn.model.saved import Section, read_config

TINY = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "tie_word_embeddings": True,
}


def tiny(**changes):
    return {**TINY, **changes}


def test_plain_llama():
    config = config_from_hf(tiny(torch_dtype="bfloat16", a_key_of_the_future=1))
    assert (config.vocab_size, config.num_layers, config.num_heads, config.num_kv_heads) == (96, 2, 4, 2)
    assert config.head_dim == 8 and config.intermediate_size == 48 and config.max_positions == 256
    assert config.norm_eps == 1e-5 and config.tie_embeddings and not config.attention_bias
    assert config.bos_token_id == 1 and config.eos_token_ids == (2, 3)
    assert config.rope_inv_freq == pytest.approx([10000 ** (-i / 4) for i in range(4)], rel=1e-6)
    assert config.hf["a_key_of_the_future"] == 1


def test_defaults_of_absent_keys():
    hf = {k: v for k, v in TINY.items() if k in ("vocab_size", "hidden_size", "intermediate_size")}
    config = config_from_hf(
        {**hf, "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": 4}
    )
    assert config.num_kv_heads == 4 and config.norm_eps == 1e-6 and config.max_positions == 2048
    assert not config.tie_embeddings and config.eos_token_ids == () and config.bos_token_id is None


def test_own_head_dim_and_biases():
    config = config_from_hf(tiny(head_dim=6, hidden_size=30, attention_bias=True, mlp_bias=True))
    assert config.head_dim == 6 and len(config.rope_inv_freq) == 3
    assert config.attention_bias and config.output_bias and config.mlp_bias


def test_to_core_has_the_keys_of_the_core():
    core = config_from_hf(TINY).to_core()
    assert set(core) == {
        "vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
        "intermediate_size", "norm_eps", "rope_dim", "rope_inv_freq", "rope_attention_factor",
        "attention_gate", "sliding_window",
        "bidirectional", "attention_bias", "output_bias", "mlp_bias", "tie_embeddings", "qk_norm", "norm",
        "block", "mlp_plain", "act", "positions", "position_offset", "segments", "embed_norm", "final_norm",
        "lm_head", "head_bias", "head_transform",
    }  # fmt: skip
    assert isinstance(core["rope_inv_freq"], list)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model_type", "rwkv", "allowed: llama"),
        ("vocab_size", 0, "at least 1"),
        ("vocab_size", "96", "at least 1"),
        ("vocab_size", None, "at least 1"),
        ("num_hidden_layers", True, "at least 1"),
        ("num_hidden_layers", 2.0, "at least 1"),
        ("num_attention_heads", -4, "at least 1"),
        ("num_key_value_heads", 3, "a divisor of num_attention_heads (4)"),
        ("hidden_size", 30, "a multiple of num_attention_heads (4)"),
        ("head_dim", 7, "even"),
        ("rms_norm_eps", 0.0, "greater than 0"),
        ("rms_norm_eps", math.nan, "greater than 0"),
        ("attention_bias", "yes", "true or false"),
        ("tie_word_embeddings", 1, "true or false"),
        ("bos_token_id", "a", "an id or a list of ids"),
        ("eos_token_id", [2, 1.5], "an id or a list of ids"),
        ("hidden_act", "gelu", "silu"),
        ("is_causal", False, "True"),
        ("pruned_heads", {"0": [1]}, "null"),
        ("partial_rotary_factor", 0.5, "1"),
        ("sliding_window", 128, "null"),
        ("quantization_config", {"bits": 4}, "null"),
        ("rope_interleaved", True, "False"),
        ("num_local_experts", 8, "1"),
        ("rope_theta", 0.5, "greater than 1"),
        ("rope_scaling", 2.0, "null or an object"),
        ("rope_scaling", {"rope_type": "longrope"}, "default, linear, dynamic, llama3, yarn"),
        ("rope_scaling", {"rope_type": "linear"}, "at least 1"),
        ("rope_scaling", {"rope_type": "linear", "factor": 0.5}, "at least 1"),
        (
            "rope_scaling",
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
            "original_max_position",
        ),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1, "beta_slow": 32}, "beta_slow"),
        ("rope_parameters", {"full_attention": {"rope_type": "default"}}, "one object for all layers"),
    ],
)
def test_bad_values_are_named(key, value, says):
    with pytest.raises(ConfigError) as caught:
        config_from_hf(tiny(**{key: value}))
    message = str(caught.value)
    assert says in message and "\n" not in message
    if key not in ("rope_scaling", "eos_token_id"):
        assert key in message and repr(value) in message


@pytest.mark.parametrize(
    "settings",
    [
        {"pretraining_tp": 2},
        {"pretraining_tp": 8, "use_cache": False},
        {"pretraining_tp": 0},
        {"attention_dropout": 0.1, "initializer_range": 0.05},
        {
            "torch_dtype": "float16",
            "_attn_implementation": "flash_attention_2",
            "gradient_checkpointing": True,
        },
    ],
)
def test_settings_of_how_and_not_of_what_change_nothing(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_from_hf(tiny(**settings)) == config_from_hf(TINY)


@pytest.mark.parametrize("hf", [None, [], "llama", {}, {"architectures": ["RwkvForCausalLM"]}])
def test_not_a_config(hf):
    with pytest.raises(ConfigError):
        config_from_hf(hf)


def test_model_config_checks_itself():
    good = config_from_hf(TINY)
    fields = {name: getattr(good, name) for name in ModelConfig.__dataclass_fields__}
    bad = [
        ("head_dim", 3),
        ("num_kv_heads", 3),
        ("rope_inv_freq", (1.0,) * 9),
        ("norm", "batch"),
        ("block", 1),
        ("mlp", "quick_gelu"),
        ("positions", 7),
        ("segments", -1),
        ("sliding_window", -1),
        ("sliding_window", 1 << 31),
    ]
    bad += [("rope_inv_freq", (1.0, 1.0, 1.0, math.inf)), ("rope_attention_factor", 0.0)]
    for name, value in bad:
        with pytest.raises(ConfigError, match=name):
            ModelConfig(**{**fields, name: value})


# --- RoPE ---


def plain(theta, head_dim):
    return theta ** (-np.arange(0, head_dim, 2) / head_dim)


def scaled(head_dim=64, theta=10000.0, positions=4096, **rope):
    return rope_frequencies({"rope_scaling": rope, "rope_theta": theta}, head_dim, positions)


def test_linear_and_dynamic():
    frequencies, factor = scaled(rope_type="linear", factor=2.5)
    np.testing.assert_allclose(frequencies, plain(1e4, 64) / 2.5, rtol=2e-7)
    assert factor == 1.0
    np.testing.assert_allclose(scaled(type="dynamic", factor=4.0)[0], plain(1e4, 64), rtol=2e-7)


def test_llama3():
    """Llama 3.2's own parameters, by the definition: keep, blend or divide by the wavelength."""
    frequencies, factor = scaled(
        theta=500000.0,
        positions=131072,
        rope_type="llama3",
        factor=32.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    expected = []
    for f in plain(500000.0, 64):
        turns = 8192 * f / (2 * math.pi)
        blend = min(max((turns - 1) / 3, 0), 1)
        expected.append((1 - blend) * f / 32 + blend * f)
    np.testing.assert_allclose(frequencies, expected, rtol=1e-6)
    assert factor == 1.0 and len(set(np.round(np.divide(frequencies, plain(500000.0, 64)), 4))) > 3


def test_yarn():
    """Qwen's long-context setting: fast dimensions kept, slow ones divided by the factor, a ramp between."""
    frequencies, factor = scaled(
        128, 1e6, 131072, rope_type="yarn", factor=4.0, original_max_position_embeddings=32768
    )
    ratio = np.divide(frequencies, plain(1e6, 128))
    np.testing.assert_allclose(ratio[:23], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ratio[40:], 0.25, rtol=1e-6)
    np.testing.assert_allclose(np.diff(ratio[24:39]), -0.75 / 17, rtol=1e-4)
    assert factor == pytest.approx(0.1 * math.log(4) + 1)


def test_yarn_attention_factor():
    yarn = {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
    assert scaled(**yarn, attention_factor=1.25)[1] == 1.25
    both = scaled(**yarn, mscale=1.0, mscale_all_dim=0.5)[1]
    assert both == pytest.approx((0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1))
    assert scaled(rope_type="yarn", factor=1.0)[1] == 1.0


def test_old_and_new_key_agree():
    rope = {"rope_type": "linear", "factor": 2.0}
    old = config_from_hf(tiny(rope_scaling=rope, rope_theta=5000.0))
    new = config_from_hf(
        {
            **{k: v for k, v in TINY.items() if k != "rope_theta"},
            "rope_parameters": {**rope, "rope_theta": 5000.0},
        }
    )
    assert old == new and old.rope_inv_freq[1] == pytest.approx(5000**-0.25 / 2)
    with pytest.raises(ConfigError, match="only one of them"):
        config_from_hf(tiny(rope_scaling=rope, rope_parameters={"rope_type": "linear", "factor": 3.0}))


@pytest.mark.parametrize(
    "new",
    [{"rope_theta": 7.0}, {"rope_type": "yarn"}, {"rope_type": "linear", "beta_fast": 3},
     {"partial_rotary_factor": 0.5}],
)  # fmt: skip
def test_rope_parameters_that_transformers_leaves_aside(new):
    """Beside rope_scaling nothing of them counts, so they may say nothing else (transformers 5.24)."""
    rope = {"type": "linear", "factor": 2.0}
    with pytest.raises(ConfigError, match="only one of them"):
        config_from_hf(tiny(rope_scaling=rope, rope_theta=5000.0, rope_parameters=new))
    same = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    both = config_from_hf(tiny(rope_scaling=rope, rope_theta=5000.0, rope_parameters=same))
    assert both == config_from_hf(tiny(rope_scaling=rope, rope_theta=5000.0))


# --- names and files ---


@pytest.mark.parametrize(
    ("internal", "external"),
    [
        ("embed.weight", "model.embed_tokens.weight"),
        ("layers.11.mixer_norm.weight", "model.layers.11.input_layernorm.weight"),
        ("layers.0.softmax.q_proj.bias", "model.layers.0.self_attn.q_proj.bias"),
        ("layers.0.mlp_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("layers.0.mlp.down_proj.weight", "model.layers.0.mlp.down_proj.weight"),
        ("layers.3.gated_delta.A_log", "model.layers.3.gated_delta.A_log"),
        ("final_norm.weight", "model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_names(internal, external):
    assert hf_name(config_from_hf(TINY), internal) == external


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"'blocks.0.x'"):
        hf_name(config_from_hf(TINY), "blocks.0.x")


@pytest.mark.parametrize("text", [None, "", "[1]", "{", '{"model_type": "rwkv"}', "\xff"])
def test_read_config_names_the_file(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"config.json"):
        read_config(tmp_path / "config.json")


def test_read_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert read_config(tmp_path / "config.json") == (config_from_hf(TINY), Section())
