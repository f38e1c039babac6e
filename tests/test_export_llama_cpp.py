"""GGUF files: read back by ourselves, and what llama.cpp makes of them where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import tokenizers
from export_models import GATED, QWEN2, QWEN3, reasons
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from hybridattn import errors
from hybridattn.data.tokenizer import Tokenizer
from hybridattn.formats import gguf_names
from hybridattn.formats.gguf_tokenizer import PRE_TOKENIZERS, SPACE, merges_of
from hybridattn.model import Model

gguf = pytest.importorskip("gguf")
try:
    import llama_cpp
except (ImportError, OSError, RuntimeError):
    llama_cpp = None
needs_llama = pytest.mark.skipif(llama_cpp is None, reason="llama-cpp-python is not installed")

VOCABULARY = 300
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 8192
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
PLAIN = {**GATED, "bias": 0, "qk_norm": 0}
MAMBA = {"kind": "mamba2"}
SOFTMAX = {
    "llama": {},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "llama biases": {"attention_bias": True},
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "yarn": {"rope_scaling": YARN},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, **QWEN3},
}
HYBRIDS = {
    "llama": (GATED, {}),
    "convolution": ({**GATED, "conv": 3}, {"tied": False}),
    "wide heads": (GATED, {"head_dim": 64}),
    "qwen2": (PLAIN, QWEN2),
    "qwen3": (PLAIN, QWEN3),
    "yarn": (GATED, {"rope_scaling": YARN}),
    "linear": (GATED, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "lean": ({**GATED, "grouped": 1, "output_gate": "low_rank"}, {}),
    "mamba2 lean": ({**MAMBA, "grouped": 1, "output_gate": "low_rank", "conv": 3}, {}),
    "mamba2": (MAMBA, {}),
    "mamba2 convolution": ({**MAMBA, "conv": 4}, {"tied": False}),
    "mamba2 biases": ({**MAMBA, "conv": 6, "bias": 0}, {"attention_bias": True}),
    "mamba2 qwen2": ({**MAMBA, "bias": 0}, {**QWEN2, "head_dim": 16, "num_key_value_heads": 1}),
    "mamba2 llama3": ({**MAMBA, "conv": 2}, {"rope_scaling": LLAMA3, "rope_theta": 500000.0}),
}


def byte_level(rule="gpt-2", chat_template=None):
    """A small tokenizer of GPT-2's kind, with merges."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = PRE_TOKENIZERS[rule](), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [tiny.TEXT],
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 10,
            special_tokens=["<eos>"],
            initial_alphabet=letters,
            show_progress=False,
        ),
    )
    core.add_tokens(["<tool>"])
    return Tokenizer(core, eos_token_id=0, chat_template=chat_template)


def model_of(keep=None, mixer=GATED, tokenizer=True, **teacher):
    made = tiny.teacher(layers=4, vocab_size=VOCABULARY, intermediate_size=64, eos_token_id=0, **teacher)
    made.tokenizer = byte_level() if tokenizer else None
    if keep is None:
        return made
    made = made.to_probe(mixer).to_hybrid(keep)
    rng = np.random.default_rng(3)
    for name, array in made.arrays().items():
        if "_conv." in name or name.endswith(".bias"):
            array[...] = 0.5 * rng.standard_normal(array.shape)
    return made


TOKENS = np.random.default_rng(1).integers(1, VOCABULARY - 20, 100).astype(np.int32)


# --- read back ---


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_softmax_models_come_back_as_they_were(name, dtype, tmp_path):
    made = model_of(**SOFTMAX[name])
    result = made.export(tmp_path / "out", "gguf", dtype=dtype)
    assert result.notes["architecture"] == {"qwen2": "qwen2", "qwen3": "qwen3", "linear": "qwen3"}.get(
        name, "llama"
    )
    back = Model.from_pretrained(tmp_path / "out" / "model.gguf")
    wanted = made if dtype == "float32" else made.astype(dtype).astype("float32")
    if name == "llama3":  # its factors are stored rounded
        np.testing.assert_allclose(back.logits(TOKENS[None]), wanted.logits(TOKENS[None]), rtol=0, atol=1e-4)
    else:
        np.testing.assert_array_equal(back.logits(TOKENS[None]), wanted.logits(TOKENS[None]))
    assert back.model_config.max_positions == made.model_config.max_positions
    assert back.model_config.eos_token_ids == made.model_config.eos_token_ids


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0", "q4_1"])
def test_blocks_come_back_as_what_astype_gives(dtype, tmp_path):
    made = model_of(tied=False)
    made.export(tmp_path / "out", "gguf", dtype=dtype)
    back = Model.from_pretrained(tmp_path / "out" / "model.gguf", dtype="auto")
    kinds = {name: kind for name, (kind, _) in back.stored().items()}
    assert kinds["layers.0.mlp.up_proj.weight"] == dtype
    assert kinds["embed.weight"] == kinds["lm_head.weight"] == "q8_0"
    wanted, found = made.arrays(), back.arrays()
    step = {"q8_0": 1 / 127, "q4_0": 1 / 7, "q4_1": 1 / 7}[dtype]
    for name, array in wanted.items():
        assert np.abs(found[name] - array).max() <= step * np.abs(array).max(), name


def test_names_go_both_ways():
    for architecture in ("llama", "qwen35"):
        parts = {**gguf_names._PART, **(gguf_names._QWEN35 if architecture == "qwen35" else {})}
        for part in parts:
            if architecture == "qwen35" and part == "ffn_norm":
                continue  # post_attention_norm there
            name = f"blk.3.{part}.weight"
            assert gguf_names.from_hf(gguf_names.to_hf(name, architecture), architecture) == name
    assert gguf_names.to_hf("blk.0.ssm_a", "qwen35") == "model.layers.0.linear_attn.A_log"
    assert gguf_names.to_hf("blk.0.ssm_a", "llama") == "blk.0.ssm_a"
    assert gguf_names.to_hf("token_types.weight") == "token_types.weight"
    with pytest.raises(KeyError):
        gguf_names.from_hf("model.layers.0.nothing.weight")


# --- vocabularies ---

TEXTS = [
    "Hello world, it's 3.14 or 12345!",
    "  two  spaces\n\n",
    "na\u00efve \u4f60\u597d",
    "",
    "<tool> x<eos>",
]


@pytest.mark.parametrize("rule", ["smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35"])
def test_byte_level_vocabularies_come_back(rule, tmp_path):
    made = model_of()
    made.tokenizer = byte_level(rule, chat_template="{{ messages }}")
    made.export(tmp_path / "out", "gguf")
    back = Tokenizer.from_gguf(tmp_path / "out" / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert reader.fields["tokenizer.ggml.pre"].contents() == rule
    for text in TEXTS:
        assert back.encode(text) == made.tokenizer.encode(text)
    assert back.eos_token_id == 0 and back.chat_template == "{{ messages }}"
    assert back.vocab_size == VOCABULARY


def sentencepiece(prefix=True):
    """A vocabulary of SentencePiece's kind as transformers converts them."""
    words = ["the", "moon", "mill", "water", "wheel"]
    pieces = {SPACE, *(SPACE + word[:n] for word in words for n in range(1, len(word) + 1))}
    pieces |= {word[i:j] for word in words for i in range(len(word)) for j in range(i + 1, len(word) + 1)}
    ordered = sorted(pieces, key=lambda piece: (-len(piece), piece))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *ordered]
    scores = [0.0] * 259 + [-float(i) for i in range(len(ordered))]
    core = tokenizers.Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            merges_of(tokens, scores),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    steps = [normalizers.Prepend(SPACE)] if prefix else []
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    ends = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*ends, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    core.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(core, bos_token_id=1, eos_token_id=2), len(tokens)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_vocabularies_come_back(prefix, tmp_path):
    made, size = sentencepiece(prefix)
    holder = tiny.teacher(vocab_size=size + 3, bos_token_id=1, eos_token_id=2)
    holder.tokenizer = made
    holder.export(tmp_path / "out", "gguf")
    back = Model.from_pretrained(tmp_path / "out" / "model.gguf").tokenizer
    for text in ("the moon and a mill", "water  wheel\n", "\u4f60 the", "moonmill"):
        assert back.encode(text, add_special_tokens=False) == made.encode(text, add_special_tokens=False)
        assert back.decode(back.encode(text)) == text
    assert (back.bos_token_id, back.eos_token_id) == (1, 2)


def test_a_model_without_a_tokenizer_comes_back_without_one(tmp_path):
    model_of(tokenizer=False).export(tmp_path / "out", "gguf")
    assert Model.from_pretrained(tmp_path / "out" / "model.gguf").tokenizer is None


def test_what_llama_cpp_would_do_otherwise_is_refused():
    made = model_of((1, 3))
    made.tokenizer.core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("o", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert "splits text by a rule that is none of smollm" in reasons(made, "gguf")[0]
    made.tokenizer = tiny.tokenizer()
    assert "has no merges" in reasons(made, "gguf")[0]
    assert "rope_type is 'llama3'" in reasons(model_of((1,), rope_scaling=LLAMA3), "gguf")[0]
    assert "bias on the output" in reasons(model_of((1,), PLAIN, attention_bias=True), "gguf")[0]
    assert "gla has no place" in reasons(model_of((1,), {"kind": "gla"}), "gguf")[0]
    assert "norms q and k" in reasons(model_of((1,), MAMBA, **QWEN3), "gguf")[0]
    assert "no softmax layer" in reasons(model_of((), MAMBA), "gguf")[0]
    assert "cannot fill up to twice" in reasons(model_of((1,), MAMBA, head_dim=24), "gguf")[0]
    assert "rotates q and k" in reasons(model_of((1,), {**MAMBA, "rope": 1}), "gguf")[0]
    small = tiny.teacher(vocab_size=200, eos_token_id=0)
    small.tokenizer = byte_level()
    assert "allowed: at most vocab_size (200)" in reasons(small, "gguf")[0]
    wide = model_of(**{**QWEN2, "head_dim": 16})
    assert "head_dim is 16" in reasons(wide, "gguf")[0]


def test_a_number_too_large_for_a_half_is_refused(tmp_path):
    made = model_of()
    made.arrays()["layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    with pytest.raises(errors.ExportError, match=r"blk\.0\.ffn_up\.weight has numbers of up to 1e\+06"):
        made.export(tmp_path / "out", "gguf", dtype="float16")
    assert made.export(tmp_path / "out", "gguf", dtype="bfloat16").dtype == "bfloat16"


# --- what llama.cpp computes ---


class Llama:
    """A GGUF file in llama.cpp, by its C functions: logits of every token."""

    def __init__(self, path, length=512):
        self.model = llama_cpp.Llama(
            str(path),
            n_ctx=length,
            n_batch=length,
            n_threads=1,
            n_threads_batch=1,
            logits_all=True,
            type_k=0,  # keys and values in float32, where halves are the default
            type_v=0,
            verbose=False,
        )

    def logits(self, *parts):
        """[tokens, vocabulary] of tokens that are given in parts, one call each."""
        self.model.reset()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.model.ctx), True)
        for part in parts:
            self.model.eval([int(token) for token in part])
        return np.array(self.model.scores[: self.model.n_tokens])


def close(theirs, ours, share=1e-4):
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=share * np.abs(ours).max())


@needs_llama
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_models_in_llama_cpp(name, tmp_path):
    made = model_of(**SOFTMAX[name])
    made.export(tmp_path / "out", "gguf", dtype="float32")
    close(Llama(tmp_path / "out" / "model.gguf").logits(TOKENS), made.logits(TOKENS[None])[0])


@needs_llama
@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("tokenizer", [True, False])
def test_hybrids_in_llama_cpp(name, tokenizer, tmp_path):
    mixer, teacher = HYBRIDS[name]
    made = model_of((1, 3), mixer, tokenizer, **teacher)
    made.export(tmp_path / "out", "gguf", dtype="float32")
    theirs, ours = Llama(tmp_path / "out" / "model.gguf"), made.logits(TOKENS[None])[0]
    close(theirs.logits(TOKENS), ours)
    close(theirs.logits(TOKENS[:60], *TOKENS[60:, None]), ours)


@needs_llama
@pytest.mark.parametrize("dtype", ["bfloat16", "q8_0", "q4_0"])
def test_mamba2_in_other_types(dtype, tmp_path):
    """What is small and sensitive stays float32; the rest loses what the type loses."""
    made = model_of((1, 3), {**MAMBA, "conv": 4}, hidden_size=64)
    made.export(tmp_path / "out", "gguf", dtype=dtype)
    wanted = made.astype(dtype).logits(TOKENS[None])[0]
    found = Llama(tmp_path / "out" / "model.gguf").logits(TOKENS)
    exact = made.logits(TOKENS[None])[0]
    errors_of = [np.linalg.norm(logits - exact) / np.linalg.norm(exact) for logits in (found, wanted)]
    assert errors_of[0] <= 3 * errors_of[1] + 1e-3


@needs_llama
@pytest.mark.parametrize("rule", ["smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35"])
def test_llama_cpp_splits_text_as_we_do(rule, tmp_path):
    made = model_of((1, 3))
    made.tokenizer = byte_level(rule)
    made.export(tmp_path / "out", "gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "out" / "model.gguf"), vocab_only=True, verbose=False)
    for text in TEXTS:
        found = theirs.tokenize(text.encode(), add_bos=False, special=True)
        assert found == made.tokenizer.encode(text)
