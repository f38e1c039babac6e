"""GGUF files: formats, names, row order, RoPE factors, tokenizers, and damaged files."""

import os
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridattn import hub
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.errors import ConfigError, DataError, HybridAttnError, WeightError
from hybridattn.families import config_from_hf
from hybridattn.formats.gguf import SUPPORTED_TYPES, open_gguf
from hybridattn.formats.loading import load_into
from hybridattn.formats.safetensors import open_weights

gguf = pytest.importorskip("gguf")
Type = gguf.GGMLQuantizationType

LAYERS, D, F, V, HEADS, KV, HD = 2, 256, 256, 12, 4, 2, 64


def random_tensors(seed=0, bias=False, tied=True):
    """A tiny llama under its GGUF names, float32, rows of q and k in Hugging Face order."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    tensors = {"token_embd.weight": normal(V, D), "output_norm.weight": normal(D)}
    if not tied:
        tensors["output.weight"] = normal(V, D)
    for i in range(LAYERS):
        rows = {"attn_q": HEADS * HD, "attn_k": KV * HD, "attn_v": KV * HD, "attn_output": D}
        for name, n in rows.items():
            tensors[f"blk.{i}.{name}.weight"] = normal(n, D if name != "attn_output" else HEADS * HD)
            if bias:
                tensors[f"blk.{i}.{name}.bias"] = normal(n)
        for name, shape in {"ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F)}.items():
            tensors[f"blk.{i}.{name}.weight"] = normal(*shape)
        tensors[f"blk.{i}.attn_norm.weight"] = normal(D)
        tensors[f"blk.{i}.ffn_norm.weight"] = normal(D)
    return tensors


def permuted(name, tensor):
    """The rows of q and k as llama.cpp's converter orders them: halves of a head interleaved."""
    if "attn_q" in name or "attn_k" in name:
        halves = tensor.reshape(-1, 2, HD // 2, *tensor.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)
    return tensor


METADATA = {
    "llama.block_count": LAYERS, "llama.context_length": 128, "llama.embedding_length": D,
    "llama.feed_forward_length": F, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0,
    "llama.rope.dimension_count": HD, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
}  # fmt: skip


def write(path, tensors, kind=Type.F32, architecture="llama", encode=None, **changes):
    """Write a GGUF file; matrices as `kind`, vectors as F32. A change of None takes a key away."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**METADATA, **changes}.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, tensor in tensors.items():
        stored = permuted(name, tensor)
        if tensor.ndim == 1 or kind == Type.F32:
            writer.add_tensor(name, stored)
        else:
            data = encode(stored) if encode else gguf.quants.quantize(stored, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_all(source):
    found = {}
    for name in source.names():
        found[name] = np.full(source.shape(name), np.nan, np.float32)
        source.read_into(name, found[name])
    return found


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


# --- refused ---


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


# --- damaged ---


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of one small tensor and a list of texts, and the byte where its header ends."""
    path = tmp_path_factory.mktemp("small") / "m.gguf"
    write(path, {"token_embd.weight": np.ones((12, 8), np.float32)}, **{"tokenizer.ggml.tokens": ["a", "bc"]})
    content = path.read_bytes()
    return content, content.index(b"token_embd.weight") + 17 + 4 + 16 + 4 + 8


def test_every_prefix_is_refused(tmp_path, small):
    path = tmp_path / "m.gguf"
    path.write_bytes(small[0])
    open_gguf(path).source.close()
    for size in reversed(range(len(small[0]))):
        os.truncate(path, size)
        with pytest.raises(WeightError) as caught:
            open_gguf(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_never_crash(tmp_path, small, data):
    content, header_end = small
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "m.gguf"
    path.write_bytes(damaged)
    try:
        with open_gguf(path).source as source:
            read_all(source)
    except (WeightError, ConfigError) as error:
        assert str(path) in str(error)


def key(name, kind, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def header(tensors=0, keys=0, version=3, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def tensor(name=b"token_embd.weight", dims=(8, 4), kind=0, offset=0):
    packed = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return struct.pack("<Q", len(name)) + name + packed + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "needs 4 bytes"),
        (b"GGML" + bytes(60), "does not start with GGUF"),
        (header(version=1), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
        (header(keys=1 << 60), "list of 1152921504606846976 keys"),
        (header(tensors=1 << 60), "list of 1152921504606846976 tensors"),
        (header(keys=1, rest=struct.pack("<Q", 1 << 63) + bytes(16)), "a metadata key"),
        (header(keys=1, rest=key(b"a", 13, bytes(8))), "value type 13"),
        (
            header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 0, 1 << 62))),
            "needs 4611686018427387904 bytes",
        ),
        (header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 8, 1 << 60))), "needs"),
        (header(keys=1, rest=key(b"a", 9, struct.pack("<IQ", 9, 1))), "list with the value type 9"),
        (header(keys=1, rest=key(b"a", 8, struct.pack("<Q", 2) + b"\xff\xff")), "not UTF-8"),
        (header(keys=2, rest=key(b"a", 4, bytes(4)) * 2), "'a' occurs twice"),
        (
            header(1, 1, rest=key(b"general.alignment", 4, struct.pack("<I", 24)) + tensor()),
            "general.alignment is 24",
        ),
        (header(1, rest=tensor(dims=()) + bytes(64)), "0 dimensions"),
        (header(1, rest=tensor(dims=(1,) * 5) + bytes(64)), "5 dimensions"),
        (header(1, rest=tensor(dims=(0, 4)) + bytes(64)), "at least 1"),
        (header(1, rest=tensor(kind=99) + bytes(256)), "type number 99"),
        (header(1, rest=tensor(dims=(33, 4), kind=3) + bytes(256)), "not a multiple of its block, 32"),
        (header(1, rest=tensor(offset=8) + bytes(256)), "not a multiple of 32"),
        (header(1, rest=tensor(offset=1 << 63) + bytes(256)), "ends at byte"),
        (header(1, rest=tensor(dims=(1 << 40, 1 << 40)) + bytes(256)), "ends at byte"),
        (header(2, rest=tensor() * 2 + bytes(512)), "occurs twice"),
        (header(2, rest=tensor() + tensor(b"b") + bytes(512)), "overlap"),
    ],
)
def test_lying_headers(tmp_path, content, says):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(WeightError) as caught:
        open_gguf(path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


# --- tokenizers ---

LETTERS = [chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))] + [
    chr(256 + i) for i in range(68)
]
TOKENS = ["<|end|>", "<|start|>", "<tool>", *LETTERS, "ab", "12", "123", "Ġab", "'S", "abx"]
MERGES = ["a b", "1 2", "12 3", "Ġ ab", "' S"]
TYPES = [3, 3, 4] + [1] * (len(TOKENS) - 3)


def tokenizer(tmp_path, pre="smollm", **changes):
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": TYPES, "tokenizer.ggml.merges": MERGES,
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 0, **changes}  # fmt: skip
    return Tokenizer.from_gguf(
        write(tmp_path / "t.gguf", {"token_embd.weight": np.ones((2, 2), np.float32)}, **keys)
    )


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["ab", "Ġab", "1", "2", "3", "'", "S", "<tool>", "<|end|>"]),
        ("gpt-2", ["ab", "Ġab", "123", "'", "S", "<tool>", "<|end|>"]),
        ("default", ["ab", "Ġab", "123", "'", "S", "<tool>", "<|end|>"]),
        ("llama-bpe", ["<|start|>", "ab", "Ġab", "123", "'S", "<tool>", "<|end|>"]),
        ("qwen2", ["ab", "Ġab", "1", "2", "3", "'S", "<tool>", "<|end|>"]),
    ],
)
def test_pre_tokenizers(tmp_path, pre, expected):
    made = tokenizer(tmp_path, pre)
    ids = made.encode("ab ab123'S<tool><|end|>")
    assert [made.core.id_to_token(i) for i in ids] == expected
    assert made.decode(ids) == "ab ab123'S<tool>"
    assert (made.vocab_size, made.bos_token_id, made.eos_token_id) == (len(TOKENS), 1, 0)
    for text in ("1234 5\n\n  x\t'll été 漢字 🙂", ""):
        assert made.decode(made.encode(text)) == text


def test_bos_and_whole_tokens(tmp_path):
    assert tokenizer(tmp_path, **{"tokenizer.ggml.add_bos_token": True}).encode("ab")[0] == 1
    llama = tokenizer(tmp_path, "llama-bpe", **{"tokenizer.ggml.add_bos_token": False})
    assert llama.encode("abx") == [TOKENS.index("abx")]  # a whole token wins over merges there
    assert len(tokenizer(tmp_path).encode("abx")) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'; allowed: gpt2"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores is missing"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'; allowed: smollm, "),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is missing"),
        ({"tokenizer.ggml.merges": ["abc"]}, "not two tokens"),
        ({"tokenizer.ggml.merges": ["a nothing"]}, "do not fit"),
        ({"tokenizer.ggml.token_type": [1]}, "another length"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], "a"]}, "a token twice"),
        ({"tokenizer.ggml.eos_token_id": 999}, "eos_token_id is 999"),
    ],
)
def test_wrong_tokenizers(tmp_path, changes, says):
    with pytest.raises(DataError) as caught:
        tokenizer(tmp_path, **changes)
    assert says in str(caught.value) and "t.gguf" in str(caught.value)


# --- the real one, where it has been fetched ---

TEACHER = hub.cache_folder() / hub.TEACHER / "SmolLM2-135M-Instruct.Q4_1.gguf"
needs_teacher = pytest.mark.skipif(
    not TEACHER.is_file(), reason="SmolLM2-135M has not been fetched (make demo)"
)


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


@needs_teacher
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
        ("<|im_start|>user\n", [1, 4093, 198]),
    ],
)
def test_smollm2_ids(text, ids, request):
    if not hasattr(request.module, "_smollm2"):
        request.module._smollm2 = Tokenizer.from_gguf(TEACHER)
    assert request.module._smollm2.encode(text) == ids
