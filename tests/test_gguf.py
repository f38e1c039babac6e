"""GGUF files: formats, names, row order, RoPE factors, and what is not supported."""

import numpy as np
import pytest
from gguf_files import (
    HD,
    HEADS,
    KV,
    LAYERS,
    TEACHER,
    D,
    F,
    Type,
    V,
    gguf,
    needs_teacher,
    permuted,
    random_tensors,
    read_all,
    write,
)

from hybridattn.errors import ConfigError, HybridAttnError, WeightError
from hybridattn.families import config_from_hf
from hybridattn.formats.gguf import SUPPORTED_TYPES, open_gguf
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights


def random_blocks(kind):
    """Bytes of random blocks whose half-precision scales are small numbers, never NaN."""
    values, size = gguf.GGML_QUANT_SIZES[kind]

    def encode(tensor):
        rng = np.random.default_rng(tensor.shape[0])
        blocks = rng.integers(0, 256, (*tensor.shape[:-1], tensor.shape[-1] // values, size), dtype=np.uint8)
        places = {Type.Q6_K: (208,), Type.Q2_K: (80, 82), Type.Q3_K: (108,)}
        at = places.get(kind, (0,) if kind.name.startswith("IQ") else (0, 2))
        for start in at:
            scale = rng.normal(size=(*blocks.shape[:-1], 1)).astype(np.float16)
            blocks[..., start : start + 2] = scale.view(np.uint8)
        return blocks.reshape(*tensor.shape[:-1], -1)

    return encode


@pytest.mark.parametrize("name", SUPPORTED_TYPES)
def test_every_format(tmp_path, name, monkeypatch):
    """Values equal the gguf package's, in Hugging Face order, also when read in several pieces."""
    kind = Type[name]
    tensors = random_tensors()
    only_read = name.endswith("_K") or name.startswith("IQ")
    encode = random_blocks(kind) if only_read else lambda t: gguf.quants.quantize(t, kind)
    write(tmp_path / "m.gguf", tensors, kind, encode=encode)
    monkeypatch.setattr("hybridattn.formats.gguf._CHUNK", 7 * D)
    with open_gguf(tmp_path / "m.gguf").source as source:
        found = read_all(source)
        assert source.type_name("model.layers.0.mlp.up_proj.weight") == name
    names = {"ffn_up": "mlp.up_proj", "attn_v": "self_attn.v_proj", "attn_q": "self_attn.q_proj"}
    for part, external in {**names, "attn_k": "self_attn.k_proj"}.items():
        stored = f"blk.1.{part}"
        original = tensors[f"{stored}.weight"]
        expected = gguf.quants.dequantize(encode(permuted(stored, original)), kind)
        if not only_read:
            assert np.abs(expected - permuted(stored, original)).max() < (0.5 if name[0] == "Q" else 0.02)
        np.testing.assert_array_equal(permuted(stored, found[f"model.layers.1.{external}.weight"]), expected)
    assert all(np.isfinite(array).all() for array in found.values())


def test_q4_k_block_by_its_definition():
    """One Q4_K block decoded by hand: 8 groups of 32, each with a 6-bit scale and minimum."""
    block = random_blocks(Type.Q4_K)(np.zeros((1, 256), np.float32)).reshape(-1)
    d, dmin = block[:4].copy().view(np.float16).astype(np.float32)
    packed, quants = block[4:16].astype(int), block[16:].astype(int)
    expected = []
    for j in range(8):
        if j < 4:
            scale, minimum = packed[j] & 63, packed[j + 4] & 63
        else:
            scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4
            minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4
        group = quants[32 * (j // 2) : 32 * (j // 2) + 32] >> (4 * (j % 2)) & 15
        expected.append(d * scale * group - dmin * minimum)
    np.testing.assert_allclose(
        gguf.quants.dequantize(block[None], Type.Q4_K)[0], np.concatenate(expected), rtol=1e-6
    )


def test_row_order_is_undone(tmp_path):
    """Biases too; and the result is what the Hugging Face file had."""
    tensors = random_tensors(bias=True, tied=False)
    model = open_gguf(write(tmp_path / "m.gguf", tensors))
    assert model.config.attention_bias and model.config.output_bias and not model.config.tie_embeddings
    found = read_all(model.source)
    for part, external in (("weight", "weight"), ("bias", "bias")):
        for stored, name in (
            ("attn_q", "q_proj"),
            ("attn_k", "k_proj"),
            ("attn_v", "v_proj"),
            ("attn_output", "o_proj"),
        ):
            np.testing.assert_array_equal(
                found[f"model.layers.1.self_attn.{name}.{external}"], tensors[f"blk.1.{stored}.{part}"]
            )
    np.testing.assert_array_equal(found["lm_head.weight"], tensors["output.weight"])


def test_config(tmp_path):
    model = open_gguf(write(tmp_path / "m.gguf", random_tensors()))
    expected = config_from_hf({
        "model_type": "llama", "vocab_size": V, "hidden_size": D, "intermediate_size": F,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HD,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
    })  # fmt: skip
    assert model.config == expected
    assert config_from_hf(model.config.hf) == expected


def test_load_into(tmp_path):
    tensors = random_tensors()
    params = {"embed.weight": np.zeros((V, D), np.float32)}
    model = open_gguf(write(tmp_path / "m.gguf", tensors))
    with model.source, pytest.raises(WeightError, match="unexpected weight"):
        load_into(params, model.source, model.config)
    model = open_gguf(write(tmp_path / "n.gguf", {"token_embd.weight": tensors["token_embd.weight"]}))
    with model.source as source:
        load_into(params, source, model.config)
    np.testing.assert_array_equal(params["embed.weight"], tensors["token_embd.weight"])
    with pytest.raises(WeightError, match="open_gguf"):
        open_weights(tmp_path / "m.gguf")


def test_rope_scaling(tmp_path):
    def rope(tensors=None, **changes):
        path = write(tmp_path / "m.gguf", {**random_tensors(), **(tensors or {})}, **changes)
        return open_gguf(path).config

    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    assert rope(**linear).rope_inv_freq[0] == 0.25
    yarn = rope(**{"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
                   "llama.rope.scaling.original_context_length": 32})  # fmt: skip
    assert (
        yarn.rope_attention_factor > 1 and yarn.hf["rope_scaling"]["original_max_position_embeddings"] == 32
    )
    with pytest.raises(ConfigError, match="longrope"):
        rope(**{"llama.rope.scaling.type": "longrope"})
    with pytest.raises(ConfigError, match="attn_factor"):
        rope(**linear, **{"llama.rope.scaling.attn_factor": 1.5})


def test_llama3_factors_become_parameters(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    hf = open_gguf(write(tmp_path / "m.gguf", random_tensors())).config.hf
    plain = config_from_hf({**hf, "rope_theta": 500000.0})
    scaled = config_from_hf({**hf, "rope_theta": 500000.0, "rope_scaling": scaling})
    factors = np.divide(plain.rope_inv_freq, scaled.rope_inv_freq).astype(np.float32)
    path = write(tmp_path / "m.gguf", {**random_tensors(), "rope_freqs.weight": factors},
                 **{"llama.rope.freq_base": 500000.0})  # fmt: skip
    model = open_gguf(path)
    assert model.config == scaled and model.config.hf["rope_scaling"] == scaling
    assert "rope_freqs.weight" not in model.source.names()
    write(path, {**random_tensors(), "rope_freqs.weight": factors[::-1].copy()})
    with pytest.raises(ConfigError, match="not those of Llama 3"):
        open_gguf(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "gpt2"}, "general.architecture is 'gpt2'; allowed: llama, qwen2, qwen3"),
        ({"llama.block_count": None}, "num_hidden_layers is None"),
        ({"llama.attention.head_count": 3}, "num_key_value_heads is 2"),
        ({"llama.attention.head_count_kv": [2, 1]}, "one number for all layers"),
        ({"llama.attention.value_length": 32}, "value_length is 32"),
        ({"llama.rope.dimension_count": 32, "llama.attention.key_length": 64}, "dimension_count is 32"),
        ({"llama.expert_count": 8}, "expert_count is 8"),
        ({"llama.attention.causal": False}, "llama.attention.causal is False; allowed: true"),
        ({"llama.attention.sliding_window": 512}, "attention.sliding_window is 512; allowed: 0"),
        ({"llama.attention.clamp_kqv": 8.0}, "clamp_kqv is 8.0"),
        ({"llama.attention.scale": 0.5}, "attention.scale is 0.5; allowed: 0, or 1 over the root"),
        ({"llama.logit_scale": 0.5}, "logit_scale is 0.5; allowed: 0 or 1"),
        ({"split.count": 2, "split.no": 0}, "is part 1 of 2 of a split file"),
        (
            {"llama.rope.dimension_count": 1 << 31},
            "head_dim is 2147483648; allowed: an integer from 1 to 65536",
        ),
        ({"llama.block_count": 1 << 31}, "num_layers is 2147483648; allowed: an integer from 1 to 65536"),
        ({"llama.attention.layer_norm_rms_epsilon": "small"}, "rms_norm_eps is 'small'"),
    ],
)
def test_unsupported(tmp_path, changes, says):
    path = write(tmp_path / "m.gguf", random_tensors(), **changes)
    with pytest.raises(ConfigError) as caught:
        open_gguf(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_unsupported_format(tmp_path):
    path = write(tmp_path / "m.gguf", random_tensors(), Type.TQ2_0)
    with (
        open_gguf(path).source as source,
        pytest.raises(WeightError, match=r"type TQ2_0; allowed: F32, .*Q6_K"),
    ):
        read_all(source)


def test_missing_package(tmp_path, monkeypatch):
    path = write(tmp_path / "m.gguf", random_tensors())
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(HybridAttnError, match=r"pip install hybridattn\[gguf\]"):
        open_gguf(path)


def test_no_such_file(tmp_path):
    with pytest.raises(WeightError, match="no such file"):
        open_gguf(tmp_path / "m.gguf")


@needs_teacher
def test_smollm2():
    model = open_gguf(TEACHER)
    config = model.config
    assert (config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads) == (30, 576, 9, 3)
    assert config.norm_eps == 1e-5 and config.tie_embeddings and config.max_positions == 8192
    assert len(model.source.names()) == 272
    for name in ("model.embed_tokens.weight", "model.layers.29.self_attn.q_proj.weight", "model.norm.weight"):
        out = np.full(model.source.shape(name), np.nan, np.float32)
        model.source.read_into(name, out)
        assert np.isfinite(out).all() and 0.01 < out.std() < 10
